"""Histograms with logarithmic buckets, for percentiles and Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing.arrays import (
    IntArray,
)

_MANTISSAS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)


def scale(first: int, last: int) -> tuple[float, ...]:
    """Return ten edges for each decade from 10**first to 10**last, among them 1, 2 and 5.

    Examples
    --------
    >>> scale(0, 1)
    (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0, 10.0)
    """
    edges = [float(f"{m}e{power}") for power in range(first, last) for m in _MANTISSAS]
    return (*edges, float(f"1e{last}"))


SECONDS = scale(-5, 3)
"""10 us to 1,000 s."""

QUERIES = scale(0, 5)
"""1 to 100,000."""


class Histogram:
    """Number of values in each bucket; safe to use from many threads.

    Parameters
    ----------
    edges : sequence of float
        Upper ends of the buckets, ascending; values above the last have a bucket of their own.
    """

    def __init__(self, edges: Sequence[float] = SECONDS) -> None:
        self.edges = np.asarray(edges, dtype=np.float64)
        self._ends: list[float] = self.edges.tolist()
        self._counts: IntArray = np.zeros(len(edges) + 1, dtype=np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float, count: int = 1) -> None:
        """Add a value, or several of the same size."""
        bucket = bisect_left(self._ends, value)
        with self._lock:
            self._counts[bucket] += count
            self._sum += value * count

    def observe_all(self, values: ArrayLike) -> None:
        """Add many values."""
        array = np.asarray(values, dtype=np.float64)
        counts = np.bincount(np.searchsorted(self.edges, array, side="left"), minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(array.sum())

    def counts(self) -> tuple[IntArray, float]:
        """Return counts by bucket, int64 of shape [len(edges) + 1], and the sum of all values."""
        with self._lock:
            return self._counts.copy(), self._sum

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts at the edges 1, 2 and 5 of each decade, in the form of Prometheus."""
        counts, _ = self.counts()
        below = np.cumsum(counts)
        buckets = [
            (f"{edge:g}", float(below[i]))
            for i, edge in enumerate(self.edges)
            if f"{edge:e}"[0] in "125" and f"{edge:e}"[2:4] == "00"
        ]
        return [*buckets, ("+Inf", float(below[-1]))]


def quantiles(edges: ArrayLike, counts: ArrayLike, shares: Sequence[float]) -> list[float | None]:
    """Return quantiles, interpolated on the logarithmic scale inside a bucket.

    Parameters
    ----------
    edges : array_like of float, shape [K]
    counts : array_like of int, shape [K + 1]
        Counts of `Histogram.counts`, or sums or differences of them.
    shares : sequence of float
        0.5 for the median.

    Returns
    -------
    list of float or None
        None without values. The error is at most the width of a bucket, a tenth of a decade.

    Examples
    --------
    >>> h = Histogram(scale(0, 2))
    >>> h.observe_all([1, 10, 100])
    >>> quantiles(h.edges, h.counts()[0], [0.5])
    [8.94427190999916]
    """
    ends: NDArray[np.float64] = np.asarray(edges, dtype=np.float64)
    numbers = np.asarray(counts, dtype=np.float64)
    total = numbers.sum()
    if total <= 0:
        return [None] * len(shares)
    below = np.cumsum(numbers)
    values: list[float | None] = []
    for share in shares:
        bucket = int(np.searchsorted(below, share * total, side="left"))
        bucket = min(bucket, len(numbers) - 1)
        high = ends[min(bucket, len(ends) - 1)]
        low = ends[bucket - 1] if 0 < bucket < len(ends) else high
        inside = (share * total - (below[bucket] - numbers[bucket])) / max(numbers[bucket], 1.0)
        values.append(float(low * (high / low) ** min(max(inside, 0.0), 1.0)))
    return values
