"""Accounts of the lanes, as last read from their ledgers, and the queries they show."""

from __future__ import annotations

import numpy as np

from routing.arrays import IntArray
from routing.budgets.counters import CounterKey, Counters
from routing.planning.counter_traffic import CounterTraffic
from routing.planning.traffic import TRAFFIC_MEMORY_QUERIES, Traffic
from routing.policy.account import Account

MIN_WORTHWHILE_SHARE = 0.05
"""Smallest share of queries that lanes are assumed to find worth an LLM."""


class LaneAccounts:
    """The newest account of each lane in one period.

    Parameters
    ----------
    lanes : int
        Partitions of the queries.
    overflow : bool
        Whether there is an overflow lane beside them. It is the last lane.
    models : int
        M, the LLMs of the plan.
    horizon : int
        Queries in a period.
    counters : Counters, optional
        The plan's; None with one budget per LLM.
    """

    def __init__(
        self, lanes: int, overflow: bool, models: int, horizon: int, counters: Counters | None = None
    ) -> None:
        self._lanes, self._counters = lanes, counters
        self.traffic = Traffic(lanes, horizon)
        self.by_counter = CounterTraffic(lanes, max(TRAFFIC_MEMORY_QUERIES, horizon // 50))
        self.accounts = [Account.fresh(1, models, counters) for _ in range(lanes + overflow)]
        """By lane."""

    def start_period(self, period: int, models: int, counters: Counters | None = None) -> None:
        """Replace all accounts by empty ones of a new period."""
        self.traffic.start_period()
        before = () if self._counters is None else self._counters.keys
        self.by_counter.start_period(before, () if counters is None else counters.keys)
        self._counters = counters
        self.accounts = [Account.fresh(period, models, counters) for _ in self.accounts]

    def resume(self, period: int, models: int, counters: Counters | None = None) -> None:
        """Replace all accounts by empty ones of a period that another planner began."""
        self.traffic.resume()
        self._counters = counters
        self.accounts = [Account.fresh(period, models, counters) for _ in self.accounts]

    def widen(self, models: int, counters: Counters | None = None) -> None:
        """Add LLMs and counters to all accounts."""
        self._counters = counters
        self.accounts = [account.widened(models) for account in self.accounts]
        self._align()

    def _align(self) -> None:
        """Bring the plan's counters to the front of all accounts."""
        if (counters := self._counters) is not None:
            self.accounts = [
                (one if one.counters is not None else one.with_counters_of(counters.models)).aligned(counters)
                for one in self.accounts
            ]

    def _of_plan(self, name: str) -> IntArray:
        """Return an array of all accounts in the plan's columns, [L, K]."""
        self._align()
        size = None if self._counters is None else len(self._counters)
        return np.stack([getattr(account, name)[:size] for account in self.accounts])

    def values_to_list(self) -> list[CounterKey]:
        """Return the values that lanes saw and the plan does not have.

        Values beyond a budget's `max_values` are missing, unless a lane charged them.
        """
        if self._counters is None:
            return []
        self._align()
        size = len(self._counters)
        charged: list[CounterKey] = []
        uncharged: list[CounterKey] = []
        for account in self.accounts:
            for column, key in enumerate(account.keys[size:], size):
                (charged if account.use[column].any() or account.charged[column] else uncharged).append(key)
        room = {
            budget.name: budget.max_values - known
            for budget, known in zip(self._counters.budgets, self._counters.known_values, strict=True)
        }
        listed = list(dict.fromkeys(charged))
        for name, _ in listed:
            room[name] -= 1
        for key in dict.fromkeys(uncharged):
            if key not in listed and room[key[0]] > 0:
                room[key[0]] -= 1
                listed.append(key)
        return listed

    def used_values(self) -> list[CounterKey]:
        """Return the values that queries of the period had."""
        if self._counters is None:
            return []
        activity = self.seen.sum(0) + self.charged.sum(0)
        keys = zip(self._counters.keys, activity.tolist(), strict=True)
        return [key for key, count in keys if key[1] is not None and count]

    @property
    def seen(self) -> IntArray:
        """Queries of the period with each value, by partition, [lanes, K]."""
        return self._of_plan("seen")[: self._lanes]

    def close_round(self) -> None:
        """Update the traffic from the queries since the last round."""
        self.traffic.close_round()
        if self._counters is not None:
            self.by_counter.close_round(self.seen)

    def record(self, lane: int, account: Account, models: int) -> None:
        """Record a lane's account; an account older than the last one is ignored."""
        if lane >= self._lanes or self.traffic.record(lane, account.arrived):
            self.accounts[lane] = account.widened(models)

    @property
    def released(self) -> IntArray:
        """Grants that lanes gave back, in smallest units, [L, K]."""
        return self._of_plan("released")

    @property
    def charged(self) -> IntArray:
        """Charges of the lanes, in smallest units, [L, K]."""
        return self._of_plan("charged")

    @property
    def arrived(self) -> int:
        """Queries of the period that arrived on the partitions."""
        return self.traffic.arrived

    @property
    def decided(self) -> int:
        """Queries that were decided or rejected; a deferred query counts once the overflow lane handled it.

        Queries of the last period that the overflow lane decided in this one count too: this period paid for
        them.
        """
        lanes, overflow = self.accounts[: self._lanes], self.accounts[self._lanes :]
        return sum(lane.arrived - lane.deferred for lane in lanes) + sum(
            lane.arrived + lane.dead for lane in overflow
        )

    @property
    def deferred_backlog(self) -> float:
        """Number of arriving queries that the deferred ones stand for.

        Lanes defer only queries that are worth an LLM. Counted as ordinary queries, they would make the rest
        of a budget look larger than it is. The error would grow with the overflow lane's queue.
        """
        lanes = self.accounts[: self._lanes]
        worthless = sum(lane.unserved for lane in lanes) / max(1, sum(lane.arrived for lane in lanes))
        return max(0, self.arrived - self.decided) / max(MIN_WORTHWHILE_SHARE, 1 - worthless)

    def lane_share(self, expected_remaining: float) -> float:
        """Return the share of the undecided queries that lanes may hold grants for.

        These are the expected queries, but at most as many as have arrived so far. Slow traffic and late
        accounts look the same, and grants that are still moving when a burst ends serve no query.

        Parameters
        ----------
        expected_remaining : float
            Queries that the rest of the period is expected to bring.
        """
        return min(expected_remaining, self.arrived) / max(1e-9, expected_remaining + self.deferred_backlog)
