"""Bills: budgets, reservations and actual costs of one period by LLM, over all lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import orjson

from routing.arrays import (
    IntArray,
)
from routing.budgets.budget import Budget
from routing.policy.account import COUNTS, LLM_VECTORS, Account
from streams.ledger.record import LedgerRecord


@dataclass(frozen=True)
class PeriodSummary:
    """Totals of one period over all lanes. Amounts are picodollars; lists are by LLM.

    Parameters
    ----------
    period : int
    closed : bool
        True once every lane has left the period, after which nothing is charged to it.
    settling : bool
        True while totals can change: the period is not closed, or reservations are open.
    models : tuple of str, length M
    budgets : list of int or None
        None if the period's plan is unknown.
    reserved, settled, charged : list of int
        All reservations; actual cost of settled queries; settled plus open reservations.
    served, settlements, lapsed, failed : list of int
        Queries routed, settled, expired without an outcome, and failed.
    arrived, unserved, deferred, dead : int
        Queries.
    again : int
        Decisions about returned queries.
    counters : list of CounterTotal
        Empty with one budget per LLM.
    alerts : dict of str to list of str
        By name of the counter: the thresholds in per cent that it has reached, and "exhaustion" if it was
        forecast to be used up early. Each is an event on the topic of budget events.
    """

    period: int
    closed: bool
    settling: bool
    models: tuple[str, ...]
    budgets: list[int] | None
    reserved: list[int]
    settled: list[int]
    charged: list[int]
    served: list[int]
    settlements: list[int]
    lapsed: list[int]
    arrived: int
    unserved: int
    deferred: int
    dead: int
    failed: list[int] = field(default_factory=list)
    again: int = 0
    counters: list[CounterTotal] = field(default_factory=list)
    alerts: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class CounterTotal:
    """Totals of one counter in a period over all lanes, in its smallest unit.

    Parameters
    ----------
    budget : str
    value : str or None
    unit : {"usd", "queries", "tokens"}
    charged : int
        Open reservations and actual draws.
    by_llm : dict of str to list
        By LLM: queries served, picodollars reserved and settled. A budget without `group_by` has those of
        the whole period, also if it was added later.
    limit : int or None
        None if the plan of the period is unknown.
    """

    budget: str
    value: str | None
    unit: str
    charged: int
    by_llm: dict[str, list[int]]
    limit: int | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> CounterTotal:
        """Return the totals of a message, of this or another release; unknown fields are ignored."""
        return cls(**{one.name: data[one.name] for one in fields(cls) if one.name in data})

    @property
    def name(self) -> str:
        """Name for people."""
        return self.budget if self.value is None else f"{self.budget}={self.value}"


def counter_totals(accounts: Sequence[Account], models: Sequence[str]) -> list[CounterTotal]:
    """Sum the counters of accounts of one period; empty with one budget per LLM."""
    counted = [(account, account.counters) for account in accounts if account.counters is not None]
    if not counted:
        return []
    keys = dict.fromkeys(key for _, counters in counted for key in counters.keys)
    column_of = {key: column for column, key in enumerate(keys)}
    charged = np.zeros(len(keys), dtype=np.int64)
    use = np.zeros((len(keys), len(models), 3), dtype=np.int64)
    budgets: dict[str, Budget] = {}
    by_llm = np.zeros((len(models), 3), dtype=np.int64)
    for account, counters in counted:
        columns = np.array([column_of[key] for key in counters.keys], dtype=np.intp)
        charged[columns] += account.charged
        use[columns, : account.use.shape[1]] += account.use
        by_llm[: len(account.served)] += np.stack([account.served, account.reserved, account.settled], 1)
        budgets |= {budget.name: budget for budget in counters.budgets}
    for key, column in column_of.items():
        if key[1] is None:  # every query on a covered LLM draws on it
            use[column] = np.where(budgets[key[0]].covers(models)[:, None], by_llm, 0)
    uses: list[dict[str, list[int]]] = [{} for _ in keys]
    columns, llms = np.nonzero(use.any(axis=2))
    for column, llm, amounts in zip(
        columns.tolist(), llms.tolist(), use[columns, llms].tolist(), strict=True
    ):
        uses[column][models[llm]] = amounts
    return [
        CounterTotal(*key, budgets[key[0]].unit, amount, by_model)
        for key, amount, by_model in zip(keys, charged.tolist(), uses, strict=True)
    ]


def summarise(
    period: int,
    models: tuple[str, ...],
    budgets: list[int] | None,
    lanes: int,
    ledgers: Mapping[int, LedgerRecord],
) -> PeriodSummary:
    """Sum one period over the ledgers.

    Parameters
    ----------
    period : int
    models : tuple of str, length M
        LLMs of the accounts' positions.
    budgets : list of int or None
        Budgets of the period by LLM, in picodollars.
    lanes : int
        Number of lanes, the overflow lane included. A lane without a ledger has not started.
    ledgers : mapping of int to LedgerRecord
        By lane.
    """
    accounts = [a for ledger in ledgers.values() if (a := ledger.account_of(period)) is not None]
    totals: dict[str, IntArray] = {
        name: sum((getattr(a.widened(len(models)), name) for a in accounts), np.zeros(len(models), np.int64))
        for name in (*LLM_VECTORS, "charged_by_llm")
    }
    totals["charged"] = totals.pop("charged_by_llm")
    del totals["freed"]
    counts = {name: sum(getattr(account, name) for account in accounts) for name in COUNTS}
    counts["arrived"] -= counts["deferred"]  # a deferred query arrives on two lanes
    closed = all_past(period, lanes, ledgers)
    still_open = totals["served"] - totals["settlements"] - totals["lapsed"]
    return PeriodSummary(
        period=period,
        closed=closed,
        settling=not closed or bool(still_open.any()),
        models=models,
        budgets=budgets,
        **{name: values.tolist() for name, values in totals.items()},
        **counts,
        counters=counter_totals(accounts, models),
    )


def all_past(period: int, lanes: int, ledgers: Mapping[int, LedgerRecord]) -> bool:
    """Return True if every lane is in a later period."""
    return all(lane in ledgers and ledgers[lane].account.period > period for lane in range(lanes))


def encode_period(summary: PeriodSummary) -> bytes:
    """Encode a summary with all of its counters as a message's value."""
    return orjson.dumps({one.name: getattr(summary, one.name) for one in fields(summary)})


def decode_period(value: bytes) -> PeriodSummary:
    """Decode a value of `encode_period`, of this or another release; unknown fields are ignored."""
    body = orjson.loads(value)
    body.setdefault("settling", not body["closed"])
    body.setdefault("failed", [0] * len(body["models"]))
    data = {one.name: body[one.name] for one in fields(PeriodSummary) if one.name in body}
    counters = [CounterTotal.of(one) for one in data.get("counters", [])]
    return PeriodSummary(**{**data, "models": tuple(data["models"]), "counters": counters})
