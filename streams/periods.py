"""What a period came to: budget, reserved and settled by LLM, for those who answer for the bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import orjson

from routing.account import COUNTS, VECTORS
from routing.decision import IntArray
from streams.ledger import LedgerRecord


@dataclass(frozen=True)
class PeriodSummary:
    """One period over all lanes; amounts are picodollars, by LLM where they are lists.

    Parameters
    ----------
    period : int
    closed : bool
        Every lane has left the period: nothing more is charged to it.
    settling : bool
        It can still change: it is not closed, or reservations are open that outcomes settle.
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


def summarise(
    period: int,
    models: tuple[str, ...],
    budgets: list[int] | None,
    lanes: int,
    ledgers: Mapping[int, LedgerRecord],
) -> PeriodSummary:
    """One period, as the ledgers have it.

    Parameters
    ----------
    period : int
    models : tuple of str, length M
        What the accounts' positions stand for.
    budgets : list of int or None
        Picodollars that the period has, or had.
    lanes : int
        How many there are, the overflow lane included; one without a ledger has not begun.
    ledgers : mapping of int to LedgerRecord
        By lane.
    """
    accounts = [a for ledger in ledgers.values() if (a := ledger.account_of(period)) is not None]
    totals: dict[str, IntArray] = {
        name: sum((getattr(a.widened(len(models)), name) for a in accounts), np.zeros(len(models), np.int64))
        for name in VECTORS
    }
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
        **{name: values.tolist() for name, values in totals.items() if name != "released"},
        **counts,
    )


def all_past(period: int, lanes: int, ledgers: Mapping[int, LedgerRecord]) -> bool:
    """Every lane is in a later period."""
    return all(lane in ledgers and ledgers[lane].account.period > period for lane in range(lanes))


def encode_period(summary: PeriodSummary) -> bytes:
    """A summary as a message's value."""
    return orjson.dumps({field.name: getattr(summary, field.name) for field in fields(summary)})


def decode_period(value: bytes) -> PeriodSummary:
    """What `encode_period` wrote, here or in another version: fields that are not known are left out."""
    found = orjson.loads(value)
    found.setdefault("settling", not found["closed"])
    data = {one.name: found[one.name] for one in fields(PeriodSummary) if one.name in found}
    return PeriodSummary(**{**data, "models": tuple(data["models"])})
