"""Warm-up: the samples and the time that the router waits for before it routes the first queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from routing.policy.plan import Plan
from streams.ledger.record import LedgerRecord

MAX_KNOWN_UNTIL = 2**53
"""Largest `Plan.until` of a scheduled solve; a larger one means that none is scheduled yet."""


@dataclass(frozen=True)
class WarmupWait:
    """State of a router that holds queries back until it has prices.

    Parameters
    ----------
    samples : int
        Sampled queries that wait.
    wanted : int, optional
        Samples from which prices are learned; None while unknown.
    seconds : float, optional
        Longest wait after the first sample; None in plans of older releases.
    """

    samples: int
    wanted: int | None
    seconds: float | None

    def __str__(self) -> str:
        queries = "queries" if self.wanted is None else f"{self.wanted} queries"
        limit = "" if self.seconds is None else f", at most {self.seconds:g} s after the first"
        return f"warm-up: the router waits for {queries} to learn prices from{limit}"


def warmup_wait(plan: Plan, ledgers: Iterable[LedgerRecord] = ()) -> WarmupWait | None:
    """Return the state of the warm-up; None if the router has prices or does not wait for them.

    Parameters
    ----------
    plan : Plan
        In force.
    ledgers : iterable of LedgerRecord
        The lanes' ledgers, for the number of samples.
    """
    origin = plan.solved_from
    if plan.learned or origin.warmup != "buffer":
        return None
    needed = None
    if plan.until is not None and plan.until < MAX_KNOWN_UNTIL:
        needed = plan.until - origin.base
    samples = sum(max(0, ledger.sampled - ledger.next) for ledger in ledgers)
    return WarmupWait(samples, needed, origin.warmup_seconds)
