"""What is still to come in a period: the history's rows, weighted by what of their kind has not arrived yet.

Prices for the rest of a period should be solved on the queries that the rest will bring. When its N queries
are like the history as a whole, kind c (a cluster of the estimates) still has ``max(N share_c - seen_c, 0)``
queries to come: exact for arrival sorted by task, where recent queries say nothing about the next, and less
noisy than recent queries for random arrival. When more of some kinds arrives than the whole period should
bring, the stream is not like the history; by that excess the mix moves to what came recently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routing.estimators.base import Estimates, FloatArray

KINDS = 48
ROWS = 4_000
"""History rows that stand for all of it."""

_ROUNDS = 12
_COST_WEIGHT = 0.5
_NOISE = 0.02  # share of excess that random arrival alone brings
_LEAST_ROWS_A_KIND = 20


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
        self._weight = np.r_[np.ones(models), _COST_WEIGHT * np.sqrt(models)]
        points = (features - self._centre) / self._scale * self._weight
        kinds = max(1, min(KINDS, len(points) // _LEAST_ROWS_A_KIND))
        self._middles = _clusters(points, kinds)
        kind = _nearest(points, self._middles)
        self.share = np.bincount(kind, minlength=len(self._middles)) / len(kind)
        self.rows = history.rows(slice(0, ROWS))
        self._kind = kind[:ROWS]
        self.reset()

    def reset(self) -> None:
        """Forget what has arrived."""
        self._seen: list[NDArray[np.intp]] = []
        self._count = np.zeros(len(self._middles))

    def observe(self, estimates: Estimates) -> None:
        """Take in queries as they arrive, [n, M]."""
        kind = _nearest((_raw(estimates) - self._centre) / self._scale * self._weight, self._middles)
        self._count += np.bincount(kind, minlength=len(self._middles))
        self._seen.append(kind)
        while sum(map(len, self._seen[1:])) >= self.recent:
            self._seen.pop(0)

    def weights(self) -> FloatArray:
        """How many of the remaining queries each of `rows` stands for; sums to about what is left of N."""
        total = float(self._count.sum())
        left = max(self.horizon - total, 1.0)
        expected = self.horizon * self.share
        excess = float(np.maximum(self._count - expected, 0).sum())
        moved = min(1.0, max(0.0, 2 * (excess / max(total, 1.0) - _NOISE)))
        rest = np.maximum(expected - self._count, 0) + 1e-6 * self.share
        mix = (1 - moved) * rest / rest.sum()
        if moved and self._seen:
            lately = np.bincount(np.concatenate(self._seen)[-self.recent :], minlength=len(self._middles))
            mix = mix + moved * lately / lately.sum()
        members = np.bincount(self._kind, minlength=len(self._middles))
        mix = np.where(members > 0, mix, 0.0)
        if mix.sum() <= 0:
            return np.full(len(self._kind), left / len(self._kind))
        return (left * mix / mix.sum() / np.maximum(members, 1))[self._kind]


def _raw(estimates: Estimates) -> FloatArray:
    """Quality on each LLM, and the mean logarithm of the cost: all that prices depend on."""
    cost = np.log(np.maximum(estimates.cost, 1e-12)).mean(axis=1, keepdims=True)
    return np.hstack([estimates.quality, cost])


def _nearest(points: FloatArray, middles: FloatArray) -> NDArray[np.intp]:
    out = np.empty(len(points), np.intp)
    squares = (middles * middles).sum(axis=1) / 2
    for start in range(0, len(points), 4096):
        part = slice(start, start + 4096)
        out[part] = (points[part] @ middles.T - squares).argmax(axis=1)
    return out


def _clusters(points: FloatArray, kinds: int) -> FloatArray:
    """Middles of k-means from a fixed start (the points come in random order)."""
    middles = points[:kinds].copy()
    sample = points[:20_000]
    for _ in range(_ROUNDS):
        kind = _nearest(sample, middles)
        count = np.bincount(kind, minlength=kinds)
        sums = np.zeros_like(middles)
        np.add.at(sums, kind, sample)
        filled = count > 0
        middles[filled] = sums[filled] / count[filled, None]
    return middles
