"""Traffic by lane, and the number of grant rounds until the end of a period at the present pace."""

from __future__ import annotations

import math

import numpy as np

TRAFFIC_MEMORY_QUERIES = 2000
"""Queries after which a lane's past traffic has weight 1/e. If a fiftieth of the horizon is larger, it
applies instead: grants of a long period must not follow random fluctuations."""

MIN_PACE_SHARE = 0.7
"""Smallest share of the last round's pace that one slower round can reduce the pace to."""

MIN_ROUNDS_FOR_PACE = 3
"""Rounds with traffic before the pace of a period is known: a burst begins like any other traffic."""


class Traffic:
    """Queries that arrive on each lane, by the accounts in the lanes' ledgers.

    Parameters
    ----------
    lanes : int
        Partitions of the queries. The overflow lane does not count: its queries arrived on another lane.
    horizon : int
        Queries in a period.
    """

    def __init__(self, lanes: int, horizon: int) -> None:
        self._horizon = horizon
        self.recent = np.zeros(lanes)
        """Recent queries by lane, weighted less the older they are; float64 [lanes]."""
        self._arrived, self._counted = np.zeros(lanes, dtype=np.int64), np.zeros(lanes, dtype=np.int64)
        self._pace = 0.0
        self._rounds, self._resumed = 0, False

    def start_period(self) -> None:
        """Reset arrivals and pace; keep the distribution of traffic over lanes."""
        self._arrived[:] = self._counted[:] = 0
        self._pace, self._rounds = 0.0, 0

    def resume(self) -> None:
        """Take over from another planner: the queries that it counted did not arrive in one round."""
        self._pace, self._rounds, self._resumed = 0.0, MIN_ROUNDS_FOR_PACE, True

    def record(self, lane: int, arrived: int) -> bool:
        """Record the queries that arrived on a lane in the period; return False for an outdated number."""
        if arrived < self._arrived[lane]:
            return False
        self._arrived[lane] = arrived
        return True

    @property
    def arrived(self) -> int:
        """Recorded queries of the period over all lanes."""
        return int(self._arrived.sum())

    @property
    def uncounted(self) -> int:
        """Queries that arrived since the last grant round."""
        return int((self._arrived - self._counted).sum())

    def close_round(self) -> None:
        """Update traffic and pace from the queries since the last round, for all lanes at once.

        Updated lane by lane, the last lane would have more weight than the first.
        """
        new = self._arrived - self._counted
        self._counted = self._arrived.copy()
        if (count := int(new.sum())) > 0:
            memory = max(TRAFFIC_MEMORY_QUERIES, self._horizon // 50)
            self.recent = self.recent * math.exp(-count / memory) + new
            # A burst ends sooner than grants can move: the pace falls slowly and rises at once.
            pace = max(float(count), MIN_PACE_SHARE * self._pace)
            self._pace, self._resumed = (0.0 if self._resumed else pace), False
            self._rounds += 1

    def grant_rounds_left(self, queries: float) -> float:
        """Return the rounds until `queries` more have arrived at the present pace; 0 if it is unknown."""
        if self._rounds < MIN_ROUNDS_FOR_PACE or queries <= 0:
            return 0.0
        return queries / self._pace if self._pace > 0 else math.inf
