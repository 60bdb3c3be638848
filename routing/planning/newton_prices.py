"""Dual prices of the budgets without an LP solver: a smoothed dual by projected Newton, with warm start.

The prices of the routing problem (arXiv 2509.02718, section 3) minimise

    D(y) = B.y + sum_j max(0, max_i (d_ij - y_i g_ij)),   y >= 0.

The inner maximum is replaced by ``tau log(1 + sum_i exp((d_ij - y_i g_ij) / tau))``, which is smooth and
convex and within ``tau log(M + 1)`` of it, and ``tau`` falls step by step. Every step solves an M x M system.
`routing.planning.lp_prices` has the exact reference, which also solves for samples too small to smooth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray
from routing.planning.lp_prices import solve_lp
from routing.planning.smoothed_dual import TAUS, WARM_TAUS, SmoothedDual

MAX_EXACT_QUERIES = 100
"""Queries up to which the linear program takes milliseconds; it replaces a result without certificate."""


def newton_prices(
    quality: FloatArray,
    cost: FloatArray,
    budgets: FloatArray,
    start: FloatArray | None = None,
    taus: Sequence[float] | None = None,
    weights: FloatArray | None = None,
    tolerance: float | None = None,
) -> FloatArray:
    """Return prices of the budgets (quality per USD) for a sample of queries.

    Parameters
    ----------
    quality : ndarray of float64, shape [n, M]
        Estimated quality of LLM i on query j.
    cost : ndarray of float64, shape [n, M]
        Estimated cost, USD, not negative.
    budgets : ndarray of float64, shape [M]
        USD that the n queries together may spend on each LLM.
    start : ndarray of float64, shape [M], optional
        Prices of the last solution to start from, with fewer smoothing steps.
    taus : sequence of float, optional
        Smoothing of each stage, in units of quality, falling.
    weights : ndarray of float64, shape [n], optional
        Number of queries that each row stands for; one each by default.
    tolerance : float, optional
        Smoothing goes on below the last tau until a feasible solution certifies that D(y) is within this
        share of the optimum, or until tau reaches its minimum (up to 100 queries are then solved exactly).
        The default is 1e-4 below 1,000 queries and 1e-3 from there on, where the certificate was 10 to 100
        times wider than the true error.

    Returns
    -------
    ndarray of float64, shape [M]
        Prices >= 0. An LLM without budget gets the lowest price at which no query of the sample chooses it.

    Examples
    --------
    Two queries, and one LLM that can pay for one of them: the price is between the values of the two.

    >>> d, g = np.array([[0.9], [0.4]]), np.array([[0.01], [0.01]])
    >>> price = newton_prices(d, g, np.array([0.01]))
    >>> bool(40 <= price[0] <= 90)
    True
    """
    quality, cost, budgets, mass = _validated_arrays(quality, cost, budgets, weights)
    n, m = quality.shape
    prices = np.zeros(m)
    if not n:
        return prices if start is None else np.maximum(np.asarray(start, float), 0)
    funded = budgets > 0
    prices[~funded] = _out_of_reach(quality[:, ~funded], cost[:, ~funded])
    if not funded.any():
        return prices
    # Costs are in units of their mean, so that prices of cheap and expensive LLMs have the same magnitude.
    unit = mass @ cost[:, funded]
    unit[unit <= 0] = 1.0
    queries = float(n if weights is None else np.sum(weights))
    problem = _Smoothed(
        np.ascontiguousarray(quality[:, funded].T),
        np.ascontiguousarray((cost[:, funded] / unit).T),
        budgets[funded] / unit / queries,
        mass,
    )
    if start is None:
        y, stages = np.full(int(funded.sum()), 0.3), TAUS if taus is None else tuple(taus)
    else:
        y = np.maximum(np.asarray(start, float)[funded] * unit, 0)
        stages = WARM_TAUS if taus is None else tuple(taus)
    if tolerance is None:
        tolerance = 1e-4 if n < 1000 else 1e-3
    y = problem.descend(y, stages, tolerance)
    if problem.gap > tolerance and n <= MAX_EXACT_QUERIES:
        # With few queries the smoothed dual loses its curvature before it is certified.
        try:
            prices[funded] = _exact(quality[:, funded], cost[:, funded], budgets[funded], weights)
            return prices
        except RuntimeError:  # HiGHS failed: prices without certificate are better than none.
            pass
    prices[funded] = y / unit
    return prices


def _exact(
    quality: FloatArray, cost: FloatArray, budgets: FloatArray, weights: FloatArray | None
) -> FloatArray:
    """Return prices by the linear program; a row of weight w counts and costs w times as much."""
    row_weights = np.ones(len(quality)) if weights is None else np.asarray(weights, float)
    return solve_lp(
        np.maximum(quality, 0) * row_weights[:, None], cost * row_weights[:, None], budgets
    ).prices


def _out_of_reach(quality: FloatArray, cost: FloatArray) -> FloatArray:
    """Return the lowest prices at which no query is worth its cost; queries without cost are ignored."""
    worth = np.divide(quality, cost, out=np.zeros_like(quality), where=cost > 0)
    prices: FloatArray = np.maximum(worth.max(axis=0, initial=0.0), 0)
    return prices


def dual_value(
    quality: FloatArray,
    cost: FloatArray,
    budgets: FloatArray,
    prices: FloatArray,
    weights: FloatArray | None = None,
) -> float:
    """Return D(y), an upper bound of the quality of any routing within the budgets (weak duality)."""
    gain = np.maximum((quality - cost * prices).max(axis=1, initial=0.0), 0)
    return float(budgets @ prices + (gain.sum() if weights is None else weights @ gain))


class _Smoothed(SmoothedDual[tuple[FloatArray, FloatArray]]):
    """The smoothed dual of one budget per LLM, in scaled units and stored as [M, n]."""

    def __init__(self, quality: FloatArray, cost: FloatArray, budget: FloatArray, mass: FloatArray) -> None:
        super().__init__(budget, mass)
        self.quality, self.cost = quality, cost

    def scaled_scores(self, y: FloatArray, tau: float) -> FloatArray:
        """Return the scores divided by tau, [M, n]."""
        z = self.cost * (-y / tau)[:, None]
        z += self.quality / tau
        return z

    def gradient(self, share: FloatArray) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """Return the gradient, [M], and the spend of each query, [M, n], without and with its weight."""
        spend = share * self.cost
        weighted = spend * self.mass
        return self.limit - weighted.sum(axis=1), (spend, weighted)

    def newton_step(
        self,
        share: FloatArray,
        draws: tuple[FloatArray, FloatArray],
        gradient: FloatArray,
        free: NDArray[np.bool_],
        tau: float,
    ) -> FloatArray:
        """Return the Newton step of the free prices."""
        spend, weighted = draws
        diagonal = np.einsum("in,in->i", weighted, self.cost)
        hessian = ((np.diag(diagonal) - weighted @ spend.T) / tau)[np.ix_(free, free)]
        hessian[np.diag_indices_from(hessian)] += 1e-9 + 1e-4 * np.trace(hessian) / len(hessian)
        return np.asarray(-np.linalg.solve(hessian, gradient[free]), float)

    def certify(self, y: FloatArray, share: FloatArray) -> None:
        """Set the gap between D(y) and the soft assignment, which is scaled down to the budgets."""
        spend = (share * self.cost) @ self.mass
        fit = np.minimum(1.0, self.limit / np.maximum(spend, 1e-300))
        primal = float(fit @ ((share * self.quality) @ self.mass))
        best = np.maximum((self.quality - self.cost * y[:, None]).max(axis=0), 0)
        dual = float(self.limit @ y + self.mass @ best)
        self.gap = (dual - primal) / max(dual, 1e-12)


def _validated_arrays(
    quality: FloatArray, cost: FloatArray, budgets: FloatArray, weights: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    quality, cost = np.asarray(quality, float), np.asarray(cost, float)
    budgets = np.asarray(budgets, float)
    if quality.ndim != 2 or quality.shape != cost.shape:
        raise ValueError(f"quality {quality.shape} and cost {cost.shape} must both be [n, M]")
    if budgets.shape != (quality.shape[1],):
        raise ValueError(f"budgets: shape {budgets.shape}; give one for each of the {quality.shape[1]} LLMs")
    if not (np.isfinite(quality).all() and np.isfinite(cost).all() and np.isfinite(budgets).all()):
        raise ValueError("quality, cost and budgets must be finite; a NaN or infinity was given")
    if (cost < 0).any():
        raise ValueError(f"cost: {cost.min()} USD; no estimated cost may be negative")
    n = len(quality)
    if weights is None:
        return quality, cost, budgets, np.full(n, 1.0 / max(n, 1))
    weights = np.asarray(weights, float)
    if weights.shape != (n,) or (weights < 0).any() or (n and weights.sum() <= 0):
        raise ValueError(f"weights: give {n} numbers >= 0, not all zero")
    return quality, cost, budgets, weights / max(weights.sum(), 1e-300)
