"""Expected rest of a period: the history's rows, weighted by the queries of their kind that are missing.

Prices for the rest of a period should be solved on the queries that are expected in the rest. If the N
queries of the period are like the history, kind c (a cluster of the estimates) has
``max(N share_c - seen_c, 0)`` queries left. That is
exact for arrival sorted by task, where recent queries do not predict the next ones. For random arrival it
is less noisy than recent queries. If more queries of some kinds arrive than the whole period should have,
the stream differs from the history. By that excess the mix moves to the recent queries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray
from routing.estimators.base import Estimates

KINDS = 48
ROWS = 4_000
"""History rows that represent the whole history."""

KMEANS_ROUNDS = 12
COST_WEIGHT = 0.5
EXCESS_NOISE = 0.02  # share of excess in random arrival
MIN_ROWS_PER_KIND = 20


class RemainingMix:
    """Weights of history rows for the rest of a period.

    Parameters
    ----------
    history : Estimates
        Leave-one-out estimates of the history in random order, [H, M].
    horizon : int
        N, queries in the period.
    recent : int
        Queries that count as recent.
    """

    def __init__(self, history: Estimates, horizon: int, recent: int = 2_000) -> None:
        self.horizon, self.recent = horizon, recent
        features = _raw(history)
        self._centre, self._scale = features.mean(axis=0), features.std(axis=0) + 1e-12
        models = history.quality.shape[1]
        self._weight = np.r_[np.ones(models), COST_WEIGHT * np.sqrt(models)]
        points = (features - self._centre) / self._scale * self._weight
        kinds = max(1, min(KINDS, len(points) // MIN_ROWS_PER_KIND))
        self._centres = _clusters(points, kinds)
        kind = _nearest(points, self._centres)
        self.share = np.bincount(kind, minlength=len(self._centres)) / len(kind)
        self.rows = history.rows(slice(0, ROWS))
        self._kind = kind[:ROWS]
        self.reset()

    def reset(self) -> None:
        """Forget all queries."""
        self._clusters_seen: list[NDArray[np.intp]] = []
        self._count = np.zeros(len(self._centres))

    def observe(self, estimates: Estimates) -> None:
        """Observe arriving queries, [n, M]."""
        kind = _nearest((_raw(estimates) - self._centre) / self._scale * self._weight, self._centres)
        self._count += np.bincount(kind, minlength=len(self._centres))
        self._clusters_seen.append(kind)
        while sum(map(len, self._clusters_seen[1:])) >= self.recent:
            self._clusters_seen.pop(0)

    def weights(self) -> FloatArray:
        """Return the number of remaining queries that each of `rows` stands for; they sum to about N - t."""
        total = float(self._count.sum())
        remaining = max(self.horizon - total, 1.0)
        expected = self.horizon * self.share
        excess = float(np.maximum(self._count - expected, 0).sum())
        recent_share = min(1.0, max(0.0, 2 * (excess / max(total, 1.0) - EXCESS_NOISE)))
        upcoming = np.maximum(expected - self._count, 0) + 1e-6 * self.share
        mix = (1 - recent_share) * upcoming / upcoming.sum()
        if recent_share and self._clusters_seen:
            recent_kinds = np.bincount(
                np.concatenate(self._clusters_seen)[-self.recent :], minlength=len(self._centres)
            )
            mix = mix + recent_share * recent_kinds / recent_kinds.sum()
        members = np.bincount(self._kind, minlength=len(self._centres))
        mix = np.where(members > 0, mix, 0.0)
        if mix.sum() <= 0:
            return np.full(len(self._kind), remaining / len(self._kind))
        weights: FloatArray = (remaining * mix / mix.sum() / np.maximum(members, 1))[self._kind]
        return weights


def _raw(estimates: Estimates) -> FloatArray:
    """Return the features of a query: quality on each LLM, and the mean logarithm of the cost."""
    cost = np.log(np.maximum(estimates.cost, 1e-12)).mean(axis=1, keepdims=True)
    return np.hstack([estimates.quality, cost])


def _nearest(points: FloatArray, centres: FloatArray) -> NDArray[np.intp]:
    out = np.empty(len(points), np.intp)
    squares = (centres * centres).sum(axis=1) / 2
    for start in range(0, len(points), 4096):
        part = slice(start, start + 4096)
        out[part] = (points[part] @ centres.T - squares).argmax(axis=1)
    return out


def _clusters(points: FloatArray, kinds: int) -> FloatArray:
    """Return the centres of k-means from a fixed start; the points are in random order."""
    centres = points[:kinds].copy()
    sample = points[:20_000]
    for _ in range(KMEANS_ROUNDS):
        kind = _nearest(sample, centres)
        count = np.bincount(kind, minlength=kinds)
        sums = np.zeros_like(centres)
        np.add.at(sums, kind, sample)
        filled = count > 0
        centres[filled] = sums[filled] / count[filled, None]
    return centres
