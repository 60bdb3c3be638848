"""Summary of the current period over all lanes, from the plan and the ledgers.

Page, metrics and timeline show it. Every worker can compute it: plan and ledgers are on compacted topics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from routing.arrays import (
    FloatArray,
    IntArray,
)
from routing.budgets.money import to_usd
from routing.planning.period_rule import PeriodRule
from routing.policy.account import Account
from routing.policy.pause import Pause
from routing.policy.plan import Plan
from streams.ledger.record import LedgerRecord
from streams.planner.warmup import WarmupWait, warmup_wait
from streams.telemetry.budget_summary import BudgetFigures, BudgetSummary


@dataclass(frozen=True)
class ModelSummary:
    """One LLM in the current period, over all lanes.

    Parameters
    ----------
    name : str
    active : bool
        The router may choose it.
    price : float
        Price in quality per USD, by the plan in force.
    budget : float
        USD for the period; the charged amount for a removed LLM.
    granted : float
        USD that lanes hold or have spent: grants less released amounts.
    charged : float
        USD that count against the budget: settled costs plus open reservations.
    reserved : float
        USD of open reservations.
    settled : float
        USD of settled queries, their real cost.
    left : float
        USD of the budget that are not charged; negative if outcomes cost more than reserved.
    served, settlements, lapsed : int
        Routed queries, settled queries, and reservations that expired without an outcome.
    unanswered : int
        Queries of all periods with an open reservation: without an outcome, and not expired.
    cost_error : float or None
        Real cost of settled queries over their reservations, less 1.
    reported : int
        Outcomes with a quality since the first record.
    quality_reported, quality_estimated : float or None
        Mean reported quality, and mean estimate for the same queries.
    """

    name: str
    active: bool
    price: float
    budget: float
    granted: float
    charged: float
    reserved: float
    settled: float
    left: float
    served: int
    settlements: int
    lapsed: int
    unanswered: int = 0
    cost_error: float | None = None
    reported: int = 0
    quality_reported: float | None = None
    quality_estimated: float | None = None


@dataclass(frozen=True)
class ClusterSummary:
    """The current period over all lanes.

    Parameters
    ----------
    period, version, revision : int
        Of the plan in force.
    learned : bool
        The plan has learned prices.
    began_at, created_at : float
        Start of the period, and creation of the plan; seconds since the epoch.
    ends_at : float, optional
        End of a period that ends by time.
    horizon : int
        Queries that the period is planned for.
    progress : float
        Share of the period that is over, by queries or by time; above 1 if it ends late.
    models : tuple of ModelSummary
    arrived, served, unserved, deferred, dead : int
        Queries of the period; a deferred query is counted once in `arrived`.
    outcomes : dict of str to int
        Outcomes since the first record, by result.
    warmup : WarmupWait, optional
        Progress of the warm-up; None if queries do not wait for prices.
    paused : dict of str to Pause
        By LLM.
    shared : bool
        The budgets are not one US dollar budget for each LLM.
    budgets : tuple of BudgetSummary
        All budgets. The figures of `models` have only the smallest dollar budget that covers an LLM.
    """

    period: int
    version: int
    revision: int
    learned: bool
    began_at: float
    created_at: float
    horizon: int
    progress: float
    models: tuple[ModelSummary, ...]
    arrived: int = 0
    served: int = 0
    unserved: int = 0
    deferred: int = 0
    dead: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    warmup: WarmupWait | None = None
    paused: Mapping[str, Pause] = field(default_factory=dict)
    ends_at: float | None = None
    shared: bool = False
    budgets: tuple[BudgetSummary, ...] = ()


def summarise_cluster(plan: Plan, ledgers: Mapping[int, LedgerRecord], now: float) -> ClusterSummary:
    """Summarise the plan's period.

    Parameters
    ----------
    plan : Plan
    ledgers : mapping of int to LedgerRecord
        By lane.
    now : float
        Seconds since the epoch.
    """
    count = len(plan.models)
    accounts = [
        account.widened(count)
        for ledger in ledgers.values()
        if (account := ledger.account_of(plan.period)) is not None
    ]
    charged, settled = _total(accounts, "charged_by_llm", count), _total(accounts, "settled", count)
    reserved = _total(accounts, "reserved", count)
    served, settlements = _total(accounts, "served", count), _total(accounts, "settlements", count)
    lapsed = _total(accounts, "lapsed", count)
    budgets, granted, prices = _llm_columns(plan, accounts, charged)
    paid_for = reserved - (charged - settled)  # reservations of the settled queries
    reported = _reported(ledgers.values())
    unanswered = _unanswered(ledgers.values(), count)
    models = []
    for i, name in enumerate(plan.models):
        number, quality, estimated = reported.get(name, (0, 0.0, 0.0))
        models.append(
            ModelSummary(
                name=name,
                active=bool(plan.active[i]),
                price=float(prices[i]),
                budget=float(to_usd(budgets[i])),
                granted=float(to_usd(granted[i])),
                charged=float(to_usd(charged[i])),
                reserved=float(to_usd(charged[i] - settled[i])),
                settled=float(to_usd(settled[i])),
                left=float(to_usd(budgets[i] - charged[i])),
                served=int(served[i]),
                settlements=int(settlements[i]),
                lapsed=int(lapsed[i]),
                unanswered=int(unanswered[i]),
                cost_error=float(settled[i] / paid_for[i] - 1) if paid_for[i] > 0 else None,
                reported=int(number),
                quality_reported=quality / number if number else None,
                quality_estimated=estimated / number if number else None,
            )
        )
    deferred = sum(account.deferred for account in accounts)
    arrived = sum(account.arrived for account in accounts) - deferred
    progress = PeriodRule.of(plan.horizon, plan.began_at, plan.ends_at).progress(arrived, now - plan.began_at)
    return ClusterSummary(
        period=plan.period,
        version=plan.version,
        revision=plan.revision,
        learned=plan.learned,
        began_at=plan.began_at,
        ends_at=plan.ends_at,
        created_at=plan.created_at,
        horizon=plan.horizon,
        progress=progress,
        models=tuple(models),
        arrived=arrived,
        served=int(served.sum()),
        unserved=sum(account.unserved for account in accounts),
        deferred=deferred,
        dead=sum(account.dead for account in accounts),
        warmup=warmup_wait(plan, ledgers.values()),
        paused=plan.paused,
        shared=not plan.per_llm,
        budgets=BudgetFigures(plan, accounts).summaries(),
        outcomes=dict(sum((Counter(ledger.outcomes) for ledger in ledgers.values()), Counter())),
    )


def budget_figures(plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> BudgetFigures:
    """Return the figures of every counter of the plan's period."""
    accounts = (ledger.account_of(plan.period) for ledger in ledgers.values())
    return BudgetFigures(plan, [account for account in accounts if account is not None])


def _llm_columns(
    plan: Plan, accounts: list[Account], charged: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the budget, the held grants and the price of each LLM, each of shape [M].

    With shared budgets an LLM has the smallest of the dollar budgets of all queries that cover it.
    """
    if plan.per_llm:
        unreleased = plan.granted.sum(0) - _total(accounts, "released", len(plan.models))
        return plan.budgets_in_force(charged), unreleased, plan.prices
    counters, models = plan.counters, len(plan.models)
    budgets = np.full(models, np.iinfo(np.int64).max)
    granted, prices = budgets.copy(), np.zeros(models)
    released = np.zeros(len(counters), dtype=np.int64)
    for account in accounts:
        if account.counters is not None:
            released += account.aligned(counters).released[: len(counters)]
    for number, column in enumerate(counters.fixed_columns.tolist()):
        budget = counters.budgets[number]
        if column >= 0 and budget.unit == "usd" and not budget.is_rate:
            covered = counters.covers[number]
            unreleased = int(plan.granted[:, column].sum() - released[column])
            budgets = np.where(covered, np.minimum(budgets, plan.budgets[column]), budgets)
            granted = np.where(covered, np.minimum(granted, unreleased), granted)
            prices = prices + np.where(covered, plan.prices[column], 0.0)
    unlimited = budgets == np.iinfo(np.int64).max
    return np.where(unlimited, charged, budgets), np.where(unlimited, 0, granted), prices


def _total(accounts: list[Account], name: str, count: int) -> IntArray:
    return sum((getattr(account, name) for account in accounts), np.zeros(count, dtype=np.int64))


def _unanswered(ledgers: Iterable[LedgerRecord], count: int) -> IntArray:
    """Return the queries without an outcome by LLM, over all accounts that lanes still keep."""
    accounts = [account.widened(count) for ledger in ledgers for account in ledger.accounts]
    served, settled, lapsed = (_total(accounts, name, count) for name in ("served", "settlements", "lapsed"))
    return np.maximum(served - settled - lapsed, 0)


def _reported(ledgers: Iterable[LedgerRecord]) -> dict[str, tuple[float, float, float]]:
    """Return number of outcomes with a quality, sum of the qualities, and sum of the estimates, by LLM."""
    sums: dict[str, tuple[float, float, float]] = {}
    for ledger in ledgers:
        for name, values in ledger.reported.items():
            known = sums.get(name, (0.0, 0.0, 0.0))
            sums[name] = (known[0] + values.count, known[1] + values.quality, known[2] + values.estimated)
    return sums
