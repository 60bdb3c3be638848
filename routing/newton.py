"""Dual prices of the budgets without an LP solver: a smoothed dual by projected Newton, with warm start.

The prices of the routing problem (arXiv 2509.02718, section 3) minimise

    D(y) = B.y + sum_j max(0, max_i (d_ij - y_i g_ij)),   y >= 0.

The inner maximum is replaced by ``tau log(1 + sum_i exp((d_ij - y_i g_ij) / tau))``, which is smooth and
convex and within ``tau log(M + 1)`` of it, and ``tau`` falls step by step. Every step solves an M x M system.
`routing.prices` has the exact reference, which is also asked where a few queries leave nothing to smooth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routing.prices import solve_lp

FloatArray = NDArray[np.float64]

TAUS = (0.1, 0.03, 0.01, 0.003)
WARM_TAUS = (0.03, 0.01, 0.003)
_ITERATIONS = 40
_SMALLEST_TAU = 1e-6
_FEW = 100
"""Queries up to which the linear program takes milliseconds: solved where smoothing certifies nothing."""


def newton_prices(
    quality: FloatArray,
    cost: FloatArray,
    budgets: FloatArray,
    start: FloatArray | None = None,
    taus: Sequence[float] | None = None,
    weights: FloatArray | None = None,
    tolerance: float | None = None,
) -> FloatArray:
    """Prices of the budgets (quality per USD) for a sample of queries.

    Parameters
    ----------
    quality : ndarray of float64, shape [n, M]
        Estimated quality of LLM i on query j.
    cost : ndarray of float64, shape [n, M]
        Estimated cost, USD, not negative.
    budgets : ndarray of float64, shape [M]
        What the n queries together may spend on each LLM, USD.
    start : ndarray of float64, shape [M], optional
        Prices to start from (those of the last solution); fewer smoothing steps are then taken.
    taus : sequence of float, optional
        Smoothing of each stage, in units of quality, falling.
    weights : ndarray of float64, shape [n], optional
        How many queries each row stands for; one each when left out.
    tolerance : float, optional
        Smoothing goes on below the last tau until a feasible solution certifies that D(y) is within this
        share of the optimum, or nothing is left to smooth (up to 100 queries are then solved exactly). Left
        out: 1e-4 below 1,000 queries, 1e-3 from there on, where the certificate was 10 to 100 times wider
        than the true error.

    Returns
    -------
    ndarray of float64, shape [M]
        Prices >= 0. An LLM without budget gets the least price at which no query of the sample wants it.

    Examples
    --------
    Two queries, one LLM that can pay one of them: the price lies between what the two are worth.

    >>> d, g = np.array([[0.9], [0.4]]), np.array([[0.01], [0.01]])
    >>> price = newton_prices(d, g, np.array([0.01]))
    >>> bool(40 <= price[0] <= 90)
    True
    """
    quality, cost, budgets, mass = _checked(quality, cost, budgets, weights)
    n, m = quality.shape
    prices = np.zeros(m)
    if not n:
        return prices if start is None else np.maximum(np.asarray(start, float), 0)
    funded = budgets > 0
    prices[~funded] = _out_of_reach(quality[:, ~funded], cost[:, ~funded])
    if not funded.any():
        return prices
    # Costs in units of their mean, so that the prices of cheap and dear LLMs are of one size.
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
    for tau in stages:
        y = problem.minimise(y, tau)
    tau = stages[-1]
    if tolerance is None:
        tolerance = 1e-4 if n < 1000 else 1e-3
    while problem.gap > tolerance and tau > _SMALLEST_TAU:
        tau /= 3
        y = problem.minimise(y, tau)
    if problem.gap > tolerance and n <= _FEW:
        # with a handful of queries the smoothed dual has no curvature left before it is certified
        try:
            prices[funded] = _exact(quality[:, funded], cost[:, funded], budgets[funded], weights)
            return prices
        except RuntimeError:  # HiGHS gave up: prices that are not certified are better than none
            pass
    prices[funded] = y / unit
    return prices


def _exact(
    quality: FloatArray, cost: FloatArray, budgets: FloatArray, weights: FloatArray | None
) -> FloatArray:
    """Prices by the linear program; a row that stands for w queries is worth and costs w times as much."""
    many = np.ones(len(quality)) if weights is None else np.asarray(weights, float)
    return solve_lp(np.maximum(quality, 0) * many[:, None], cost * many[:, None], budgets).prices


def _out_of_reach(quality: FloatArray, cost: FloatArray) -> FloatArray:
    """The least prices at which no query is worth its cost; free queries set none."""
    worth = np.divide(quality, cost, out=np.zeros_like(quality), where=cost > 0)
    return np.maximum(worth.max(axis=0, initial=0.0), 0)


def dual_value(
    quality: FloatArray,
    cost: FloatArray,
    budgets: FloatArray,
    prices: FloatArray,
    weights: FloatArray | None = None,
) -> float:
    """D(y), the bound on the quality that any routing within the budgets can reach (weak duality)."""
    gain = np.maximum((quality - cost * prices).max(axis=1, initial=0.0), 0)
    return float(budgets @ prices + (gain.sum() if weights is None else weights @ gain))


class _Smoothed:
    """The smoothed dual a query, in scaled units and held as [M, n]; keeps the last certified gap."""

    def __init__(self, quality: FloatArray, cost: FloatArray, budget: FloatArray, mass: FloatArray) -> None:
        self.quality, self.cost, self.budget, self.mass = quality, cost, budget, mass
        self.gap = np.inf

    def value(self, y: FloatArray, tau: float) -> tuple[float, FloatArray]:
        """The smoothed dual, and the soft assignment [M, n] whose spend is its gradient."""
        z = self.cost * (-y / tau)[:, None]
        z += self.quality / tau
        top = np.maximum(z.max(axis=0), 0)
        z -= top
        np.exp(z, out=z)
        total = z.sum(axis=0)
        total += np.exp(-top)
        z /= total
        return float(self.budget @ y + tau * (self.mass @ (top + np.log(total)))), z

    def minimise(self, y: FloatArray, tau: float) -> FloatArray:
        """Projected Newton with back-tracking from y."""
        m = len(y)
        value, share = self.value(y, tau)
        for _ in range(_ITERATIONS):
            spend = share * self.cost
            weighted = spend * self.mass
            gradient = self.budget - weighted.sum(axis=1)
            free = ~((y <= 1e-12) & (gradient > 0))
            if not free.any():
                break
            diagonal = np.einsum("in,in->i", weighted, self.cost)
            hessian = ((np.diag(diagonal) - weighted @ spend.T) / tau)[np.ix_(free, free)]
            hessian[np.diag_indices_from(hessian)] += 1e-9 + 1e-4 * np.trace(hessian) / len(hessian)
            step = np.zeros(m)
            step[free] = -np.linalg.solve(hessian, gradient[free])
            reach = np.maximum(0.5, y)  # prices far from the start are reached by doubling
            step = np.clip(step, -reach, reach)
            length = 1.0
            while length > 1e-4:
                moved = np.maximum(y + length * step, 0)
                next_value, next_share = self.value(moved, tau)
                if next_value <= value + 1e-4 * gradient @ (moved - y):
                    break
                length *= 0.4
            else:
                break
            gain, y, value, share = value - next_value, moved, next_value, next_share
            if gain < min(2e-6, 1e-3 * tau):
                break
        self._certify(y, share)
        return y

    def _certify(self, y: FloatArray, share: FloatArray) -> None:
        """Gap between D(y) and the soft assignment, shrunk until no budget is exceeded."""
        used = (share * self.cost) @ self.mass
        fit = np.minimum(1.0, self.budget / np.maximum(used, 1e-300))
        primal = float(fit @ ((share * self.quality) @ self.mass))
        best = np.maximum((self.quality - self.cost * y[:, None]).max(axis=0), 0)
        dual = float(self.budget @ y + self.mass @ best)
        self.gap = (dual - primal) / max(dual, 1e-12)


def _checked(
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
