"""Traffic of each counter by lane, and the lane that a counter belongs to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import CounterKey

PRIOR_QUERIES = 20.0
"""Queries that the values listed in a budget are assumed to have had together, before any arrived."""


class CounterTraffic:
    """Recent queries of each counter by lane.

    Parameters
    ----------
    lanes : int
        Partitions of the queries.
    memory : float
        Queries after which past traffic has weight 1/e.
    """

    def __init__(self, lanes: int, memory: float) -> None:
        self._memory = memory
        self._recent = np.zeros((lanes, 0))
        self._counted = np.zeros((lanes, 0), dtype=np.int64)

    def start_period(self, before: Sequence[CounterKey], keys: Sequence[CounterKey]) -> None:
        """Count the queries of a new period with these counters; keep the traffic of those of the last."""
        recent = np.zeros((len(self._recent), len(keys)))
        old = {key: column for column, key in enumerate(before[: self._recent.shape[1]])}
        for column, key in enumerate(keys):
            if key in old:
                recent[:, column] = self._recent[:, old[key]]
        self._recent, self._counted = recent, np.zeros(recent.shape, dtype=np.int64)

    def close_round(self, arrivals: IntArray) -> None:
        """Update the traffic from the queries that lanes saw in the period, [lanes, K]."""
        more = arrivals.shape[1] - self._recent.shape[1]
        recent, counted = (np.pad(old, ((0, 0), (0, more))) for old in (self._recent, self._counted))
        new = np.maximum(arrivals - counted, 0)
        self._counted = np.maximum(arrivals, counted)
        self._recent = recent * math.exp(-float(new.sum()) / self._memory) + new

    @property
    def share(self) -> FloatArray:
        """Share of each lane in a counter's recent queries, [lanes, K]."""
        total = self._recent.sum(0)
        none = np.zeros_like(self._recent)
        shares: FloatArray = np.divide(self._recent, total, out=none, where=total > 0)
        return shares


def value_shares(listed: NDArray[np.bool_], arrivals: IntArray) -> FloatArray:
    """Return the expected share of each value of one budget in the coming queries.

    Parameters
    ----------
    listed : ndarray of bool, shape [T]
        Values with a limit of their own in the budget.
    arrivals : ndarray of int64, shape [T]
        Queries of the period with each value.

    Examples
    --------
    >>> value_shares(np.array([True, True]), np.array([0, 20])).tolist()
    [0.25, 0.75]
    """
    prior = np.where(listed, PRIOR_QUERIES / max(1, listed.sum()), 0.0)
    weight: FloatArray = arrivals.astype(np.float64) + prior
    total = float(weight.sum())
    return weight / total if total > 0 else weight
