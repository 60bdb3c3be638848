"""What a period came to: budget, reserved and settled by LLM, for those who answer for the bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import orjson

from routing.account import COUNTS, VECTORS, Account
from routing.decision import IntArray
from routing.plan import Plan
from streams.ledger import LedgerRecord


@dataclass(frozen=True)
class PeriodSummary:
    """One period over all lanes; amounts are picodollars, by LLM where they are lists.

    Parameters
    ----------
    period : int
    closed : bool
        Every lane has left the period; only late outcomes still change it.
    models : tuple of str, length M
    budgets : list of int or None
        None when the period's plan is not known any more.
    reserved, settled, charged : list of int
        Reserved in all; really spent by settled queries; settled plus what is still reserved.
    served, settlements, lapsed : list of int
        Queries: routed, settled, given up without an outcome.
    arrived, unserved, deferred, dead : int
        Queries.
    """

    period: int
    closed: bool
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


def summarise(
    plan: Plan, ledgers: Mapping[int, LedgerRecord], last_budgets: list[int] | None = None
) -> list[PeriodSummary]:
    """The last period and the current one, as the ledgers have them.

    Parameters
    ----------
    plan : Plan
        In force.
    ledgers : mapping of int to LedgerRecord
        All lanes'.
    last_budgets : list of int, optional
        Picodollars that the last period had; a change of the catalogue since then is none of its business.
        None: the plan's.
    """
    summaries = []
    for period in (plan.period - 1, plan.period):
        accounts = [
            account
            for ledger in ledgers.values()
            for account in (ledger.account, ledger.closed)
            if account is not None and account.period == period
        ]
        if accounts:
            left = all(ledger.account.period > period for ledger in ledgers.values())
            budgets = plan.budgets.tolist()
            if period < plan.period and last_budgets is not None:
                budgets = last_budgets + [0] * (len(budgets) - len(last_budgets))
            summaries.append(_sum(plan, period, accounts, left, budgets))
    return summaries


def _sum(
    plan: Plan, period: int, accounts: list[Account], closed: bool, budgets: list[int]
) -> PeriodSummary:
    models = len(plan.models)
    totals: dict[str, IntArray] = {
        name: sum((getattr(a.widened(models), name) for a in accounts), np.zeros(models, np.int64))
        for name in VECTORS
    }
    counts = {name: sum(getattr(account, name) for account in accounts) for name in COUNTS}
    counts["arrived"] -= counts["deferred"]  # a deferred query arrives on two lanes
    return PeriodSummary(
        period=period,
        closed=closed,
        models=plan.models,
        budgets=budgets,
        **{name: values.tolist() for name, values in totals.items() if name != "released"},
        **counts,
    )


def encode_period(summary: PeriodSummary) -> bytes:
    """A summary as a message's value."""
    return orjson.dumps({field.name: getattr(summary, field.name) for field in fields(summary)})


def decode_period(value: bytes) -> PeriodSummary:
    """What `encode_period` wrote, here or in another version: fields that are not known are left out."""
    found = orjson.loads(value)
    data = {one.name: found[one.name] for one in fields(PeriodSummary) if one.name in found}
    return PeriodSummary(**{**data, "models": tuple(data["models"])})
