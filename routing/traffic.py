"""Traffic by lane, and how soon the rest of a period will have come at the present pace."""

from __future__ import annotations

import math

import numpy as np

TRAFFIC_MEMORY = 2000
"""Queries after which a lane's past traffic counts for 1/e; a fiftieth of the horizon if that is more: in a
long period rights do not follow every chance."""

PACE_KEPT = 0.7
"""Share of the last look's pace below which a slower one does not bring it at once."""

LOOKS_TO_KNOW = 3
"""Looks with traffic before the pace of a period counts as known: a burst begins as any traffic does."""


class Traffic:
    """Queries that arrive on each lane, as its ledger tells.

    Parameters
    ----------
    lanes : int
        The overflow lane left out: what arrives there has arrived before.
    horizon : int
        Queries in a period.
    """

    def __init__(self, lanes: int, horizon: int) -> None:
        self._horizon = horizon
        self.recent = np.zeros(lanes)
        """Queries of late by lane, older ones counting less; float64 [lanes]."""
        self._arrived, self._counted = np.zeros(lanes, dtype=np.int64), np.zeros(lanes, dtype=np.int64)
        self._pace = 0.0
        self._looks, self._resumed = 0, False

    def start_period(self) -> None:
        """Nothing has arrived yet; how traffic is spread over lanes goes on, how fast it is may not."""
        self._arrived[:] = self._counted[:] = 0
        self._pace, self._looks = 0.0, 0

    def resume(self) -> None:
        """Another planner has counted until now: what it saw did not arrive in one look."""
        self._pace, self._looks, self._resumed = 0.0, LOOKS_TO_KNOW, True

    def see(self, lane: int, arrived: int) -> bool:
        """Take in what has arrived on a lane in the period; False when that is older than what is known."""
        if arrived < self._arrived[lane]:
            return False
        self._arrived[lane] = arrived
        return True

    @property
    def arrived(self) -> int:
        """Queries of the period that the lanes took in, as last seen."""
        return int(self._arrived.sum())

    @property
    def uncounted(self) -> int:
        """Queries that arrived since the last look."""
        return int((self._arrived - self._counted).sum())

    def count(self) -> None:
        """Traffic and pace since the last look, of all lanes at once.

        Lane by lane, the last would count for more than the first.
        """
        new = self._arrived - self._counted
        self._counted = self._arrived.copy()
        if (count := int(new.sum())) > 0:
            memory = max(TRAFFIC_MEMORY, self._horizon // 50)
            self.recent = self.recent * math.exp(-count / memory) + new
            # a burst is over sooner than rights have moved: slow to forget, quick to learn
            pace = max(float(count), PACE_KEPT * self._pace)
            self._pace, self._resumed = (0.0 if self._resumed else pace), False
            self._looks += 1

    def looks_left(self, to_come: float) -> float:
        """Looks until so many more queries have arrived at the present pace; 0 before that is known."""
        if self._looks < LOOKS_TO_KNOW or to_come <= 0:
            return 0.0
        return to_come / self._pace if self._pace > 0 else math.inf
