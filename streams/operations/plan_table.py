"""The plan in force as text: origin of its prices, and holders of each budget."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from routing.arrays import (
    IntArray,
)
from routing.budgets.budget import unit_name
from routing.budgets.money import to_usd
from routing.policy.pause import Pause
from routing.policy.plan import Plan
from routing.policy.policy import enter_period
from streams.ledger.record import LedgerRecord
from streams.operations.console_table import table_lines
from streams.planner.warmup import warmup_wait

SOLVERS = {"exact": "the linear program", "newton": "Newton's method"}


def plan_lines(plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> list[str]:
    """Return the plan as text.

    Parameters
    ----------
    plan : Plan
        In force.
    ledgers : mapping of int to LedgerRecord
        By lane, as committed when the plan was read.
    """
    state = "prices learned" if plan.learned else "no prices yet"
    lines = [
        f"period {plan.period}, plan {plan.version}, revision {plan.revision}: {state}",
        f"horizon {plan.horizon} queries{_period_end(plan)}, catalogue version {plan.catalogue}",
        f"prices {price_origin(plan)}",
    ]
    if (wait := warmup_wait(plan, ledgers.values())) is not None:
        lines += [str(wait), f"{wait.samples} queries wait"]
    lines += [
        f"estimated costs of {name}: the history's times {factor:g}, by the change of its list price"
        for name, factor in plan.cost_factor.items()
    ]
    lines += [
        f"{name}: limit raised by {_added_amount(plan, name, amount)} for this period"
        for name, amount in plan.topped_up.items()
    ]
    lines += [pause_line(name, pause) for name, pause in plan.paused.items()]
    return [*lines, "", *_table(plan, ledgers), "", *LEGEND]


def pause_line(name: str, pause: Pause) -> str:
    """Return a pause as a line of text."""
    until = "" if pause.until is None else f", until {_clock(pause.until)}"
    state = f"gets {pause.share:.1%} of the queries as tests" if pause.share else "gets no queries"
    return f"{name} {state} since {_clock(pause.since)}{until}: {pause.reason}"


def _added_amount(plan: Plan, name: str, amount: int) -> str:
    column = plan.counters.names.index(name)
    return unit_name(plan.counters.budgets[plan.counters.budget_of[column]].unit, amount)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")


LEGEND = (
    "charged: settled costs and open reservations. lanes hold: granted to the partitions and not spent.",
    "free in pool: the rest of the budget, for the overflow lane and for what the planner grants next.",
)


def price_origin(plan: Plan) -> str:
    """Return the origin of the prices, as the end of a sentence that begins with "prices"."""
    origin = plan.solved_from
    observed, rows = origin.observed, origin.rows
    if not plan.learned:
        return "are not known yet"
    if not observed:
        carried_over = origin.from_samples
        return "stay those of the period before" if carried_over else "were learned from the history"
    samples = f"{observed} sampled queries"
    if rows > observed:
        samples += f" and {rows - observed} rows of the history"
    elif rows < observed:
        samples = f"{rows} rows, after {samples}"
    when = datetime.fromtimestamp(plan.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    solver = SOLVERS.get(str(origin.solver), "the solver")
    return f"were learned from {samples} by {solver}; last change of the plan {when}"


def holdings(plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> tuple[IntArray, IntArray, IntArray]:
    """Return charged, unspent (held by lanes) and free amounts (in the pool) by counter, each [K].

    The three add up to the budget, unless charges exceed the budget.

    Parameters
    ----------
    plan : Plan
    ledgers : mapping of int to LedgerRecord
        By lane.
    """
    size = len(plan.counters)
    charged, unspent = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for lane in range(plan.lanes):
        account = ledgers[lane].account_of(plan.period) if lane in ledgers else None
        free = plan.granted[lane]
        if account is not None:
            account = enter_period(account, plan)
            charged += account.charged[:size]
            free = plan.granted[lane] - account.released[:size] - account.charged[:size]
        if lane != plan.pool:
            unspent += np.maximum(free, 0)
    pool = np.maximum(plan.budgets_in_force(charged) - charged - unspent, 0)
    return charged, unspent, pool


def _table(plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> list[str]:
    charged, unspent, pool = holdings(plan, ledgers)
    budgets = plan.budgets_in_force(charged)
    counters = plan.counters
    labels = [
        name if is_open else f"{name} (removed)"
        for name, is_open in zip(counters.names, plan.open, strict=True)
    ]
    units = [counters.budgets[number].unit for number in counters.budget_of]
    columns = (budgets, charged, unspent, pool)
    rows = [
        [label, f"{plan.prices[i]:.4g}", *(_amount(column[i], units[i]) for column in columns)]
        for i, label in enumerate(labels)
    ]
    if plan.per_llm:
        rows.append(["all", "", *(f"{to_usd(column.sum()):.6f}" for column in columns)])
        headers = ["LLM", "price 1/USD", "budget USD", "charged USD", "lanes hold", "free in pool"]
    else:
        headers = ["budget", "price", "limit", "charged", "lanes hold", "free in pool"]
    return table_lines(headers, rows)


def _amount(amount: int, unit: str) -> str:
    return f"{to_usd(amount):.6f}" if unit == "usd" else str(int(amount))


def _period_end(plan: Plan) -> str:
    """Return the end of a period that ends by time; empty for others."""
    return "" if plan.ends_at is None else f", period ends {_clock(plan.ends_at)}"
