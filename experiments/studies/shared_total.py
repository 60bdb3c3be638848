"""Routing on one total that all LLMs share, in memory, with reported qualities that arrive while it runs."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates
from routing.feedback.correction import QualityCorrection

RESOLVE_EVERY = 250
SAMPLE_ROWS = 1_000
"""Rows of the history that each price is solved on, drawn again for every solve."""

BISECTIONS = 50
Reward = Callable[[int, int], float]
"""Returns the quality of a query's answer by an LLM, from their numbers."""


def add_budget_factor(parser: argparse.ArgumentParser) -> None:
    """Add the option of the total that the LLMs share."""
    parser.add_argument(
        "--budget-factor",
        type=float,
        default=3.0,
        help="the shared total, as a multiple of the cheapest LLM's total cost [%(default)s]",
    )


@dataclass(frozen=True)
class SharedTotal:
    """A stream of queries and one total that pays for all of them.

    Parameters
    ----------
    estimates : Estimates
        Of the n queries in order of arrival, [n, M].
    history : Estimates
        Leave-one-out estimates of the history, [H, M]; prices are solved on them.
    cost : ndarray of float64, shape [n, M]
        True cost in USD, charged at once.
    total : float
        USD.
    clusters : ndarray of int64, shape [n]
        Task cluster of each query.
    history_clusters : ndarray of int64, shape [H]
    seed : int
        Of the rows that prices are solved on.
    price : ndarray of float64, shape [n, M], optional
        Factors of the list prices at each query, which `estimates` and `cost` include.
    """

    estimates: Estimates
    history: Estimates
    cost: FloatArray
    total: float
    clusters: IntArray
    history_clusters: IntArray
    seed: int = 0
    price: FloatArray | None = None

    def at_prices(self, cost: FloatArray, price: FloatArray) -> SharedTotal:
        """Return the stream with list prices that change, known as soon as they do.

        Parameters
        ----------
        cost : ndarray of float64, shape [n, M]
            True cost at these prices, USD.
        price : ndarray of float64, shape [n, M]
            Factors of the list prices.
        """
        estimates = replace(self.estimates, cost=self.estimates.cost * price)
        return replace(self, estimates=estimates, cost=cost, price=price)

    def run(
        self,
        reward: Reward,
        *,
        learns: bool = False,
        known_factor: Callable[[int], FloatArray] | None = None,
        outcome_after: int = 0,
    ) -> tuple[IntArray, FloatArray]:
        """Route all queries.

        Parameters
        ----------
        reward : callable
        learns : bool
            Correct the estimates by the qualities of the answers.
        known_factor : callable, optional
            Returns factors of the estimated qualities at a query, [M]: an oracle that knows the change.
        outcome_after : int
            Queries after which an answer's quality is known.

        Returns
        -------
        choice : ndarray of int64, shape [n]
            LLM of each query, -1 if unserved.
        quality : ndarray of float64, shape [n]
            Of the answers; 0 if unserved.
        """
        n, models = self.cost.shape
        clusters = int(max(self.clusters.max(), self.history_clusters.max())) + 1
        correction = QualityCorrection.empty(models, clusters)
        offsets = correction.offsets()
        random = np.random.default_rng(self.seed)
        choice, quality, left, price = np.full(n, -1), np.zeros(n), self.total, 0.0
        waiting: deque[tuple[int, int]] = deque()
        for j in range(n):
            while learns and waiting and waiting[0][0] <= j:
                k = waiting.popleft()[1]
                correction = self._after(correction, k, int(choice[k]), float(quality[k]))
                offsets = correction.offsets()
            factor = np.ones(models) if known_factor is None else known_factor(j)
            if j % RESOLVE_EVERY == 0:
                rows = random.integers(len(self.history), size=SAMPLE_ROWS)
                worth = self.history.quality[rows] + offsets.T[self.history_clusters[rows]]
                budget = max(left, 0.0) * SAMPLE_ROWS / (n - j)
                now = 1.0 if self.price is None else self.price[j]
                price = total_price(np.clip(worth * factor, 0, 1), self.history.cost[rows] * now, budget)
            worth = np.clip(factor * (self.estimates.quality[j] + offsets[:, self.clusters[j]]), 0, 1)
            score = np.where(self.cost[j] <= left, worth - price * self.estimates.cost[j], -1.0)
            i = int(score.argmax())
            if score[i] > 0:
                choice[j], quality[j] = i, reward(j, i)
                left -= float(self.cost[j, i])
                waiting.append((j + 1 + outcome_after, j))
        return choice, quality

    def _after(self, correction: QualityCorrection, j: int, i: int, quality: float) -> QualityCorrection:
        """Return the correction after one more answer."""
        count, residual = np.zeros_like(correction.weight), np.zeros_like(correction.weight)
        count[i, self.clusters[j]] = 1
        residual[i, self.clusters[j]] = quality - self.estimates.quality[j, i]
        return correction.with_answers(count, residual)


def total_price(quality: FloatArray, cost: FloatArray, budget: float) -> float:
    """Return the dual price of one budget that all LLMs draw on, in quality per USD, by bisection.

    Examples
    --------
    >>> round(total_price(np.array([[0.2, 0.8]] * 4), np.array([[0.0, 1.0]] * 4), 2.0), 3)
    0.6
    """
    low, high = 0.0, float(quality.max() / max(cost[cost > 0].min(), 1e-12)) if (cost > 0).any() else 1.0
    rows = np.arange(len(quality))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        score = quality - middle * cost
        best = score.argmax(1)
        spent = float(cost[rows, best][score[rows, best] > 0].sum())
        low, high = (middle, high) if spent > budget else (low, middle)
    return high
