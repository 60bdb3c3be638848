"""Dual prices of the budgets by the exact linear program, the reference for faster solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray

if TYPE_CHECKING:
    from scipy.sparse import csc_array


@dataclass(frozen=True)
class LPSolution:
    """An optimal primal and dual solution.

    Parameters
    ----------
    assignment : ndarray of float64, shape [n, M]
        x_ij in [0, 1], the share of query j that LLM i answers.
    objective : float
        Total quality, the sum of d_ij x_ij.
    prices : ndarray of float64, shape [M]
        Dual values of the budget rows, quality per USD, not negative.
    """

    assignment: FloatArray
    objective: float
    prices: FloatArray


def _check(quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> None:
    if quality.ndim != 2 or quality.shape != cost.shape or budgets.shape != (quality.shape[1],):
        raise ValueError(
            f"quality {quality.shape}, cost {cost.shape}, budgets {budgets.shape} must be [n, M], [n, M], [M]"
        )
    for name, values in (("quality", quality), ("cost", cost), ("budgets", budgets)):
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError(f"{name}: every value must be finite and not negative")


def solve_lp(quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> LPSolution:
    """Solve max sum d x subject to the budgets and at most one LLM a query, by HiGHS.

    Parameters
    ----------
    quality, cost : ndarray of float64, shape [n, M]
        Quality in [0, 1] and cost in USD of query j on LLM i.
    budgets : ndarray of float64, shape [M]
        USD; an LLM with a budget of zero serves no query, not even at no cost.

    Returns
    -------
    LPSolution

    Raises
    ------
    ValueError
        Shapes do not match, or a value is negative or not finite.
    RuntimeError
        HiGHS did not reach an optimum.

    References
    ----------
    PORT, arXiv 2509.02718, section 2 (the linear program) and section 3 (its dual).

    Examples
    --------
    Two queries, and one LLM that can pay for one of them: the second query's loss sets the price.

    >>> solution = solve_lp(np.array([[0.9], [0.4]]), np.array([[1.0], [1.0]]), np.array([1.0]))
    >>> round(solution.objective, 6), bool(0.4 <= solution.prices[0] <= 0.9)
    (0.9, True)
    """
    quality, cost, budgets = (np.asarray(a, dtype=np.float64) for a in (quality, cost, budgets))
    _check(quality, cost, budgets)
    n, models = quality.shape
    open_models = np.flatnonzero(budgets > 0)
    assignment, prices = np.zeros((n, models)), np.zeros(models)
    objective, query_duals = 0.0, np.zeros(n)
    if n and open_models.size:
        d, g = quality[:, open_models], cost[:, open_models]
        scale = np.where(g.mean(0) > 0, g.mean(0), 1.0)
        from scipy.optimize import linprog

        result = linprog(
            -d.ravel(),
            A_ub=_constraints(g / scale),
            b_ub=np.concatenate([budgets[open_models] / scale, np.ones(n)]),
            bounds=(0, None),
            method="highs",
        )
        if result.status != 0:
            raise RuntimeError(f"the linear program was not solved: {result.message}")
        duals = -result.ineqlin.marginals
        assignment[:, open_models] = result.x.reshape(d.shape)
        prices[open_models] = np.maximum(duals[: open_models.size], 0.0) / scale
        query_duals = np.maximum(duals[open_models.size :], 0.0)
        objective = float(-result.fun)
    _price_closed(prices, quality, cost, query_duals, budgets <= 0)
    return LPSolution(assignment, objective, prices)


def _constraints(cost: FloatArray) -> csc_array:
    """Build the rows: M budgets, then n queries. Column j * M + i has two entries."""
    from scipy.sparse import csc_array

    n, models = cost.shape
    rows = np.empty((n, models, 2), dtype=np.int32)
    rows[:, :, 0] = np.arange(models)
    rows[:, :, 1] = models + np.arange(n)[:, None]
    data = np.stack([cost, np.ones_like(cost)], axis=2)
    return csc_array(
        (data.ravel(), rows.ravel(), np.arange(0, 2 * n * models + 1, 2)), shape=(models + n, n * models)
    )


def _price_closed(
    prices: FloatArray,
    quality: FloatArray,
    cost: FloatArray,
    query_duals: FloatArray,
    closed: NDArray[np.bool_],
) -> None:
    """Set the prices of LLMs without budget to the lowest at which no query chooses them.

    They are dual feasible and finite.
    """
    for i in np.flatnonzero(closed):
        gain = quality[:, i] - query_duals
        costs = cost[:, i]
        worth = gain[(gain > 0) & (costs > 0)] / costs[(gain > 0) & (costs > 0)]
        prices[i] = worth.max(initial=0.0)


def dual_objective(prices: FloatArray, quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> float:
    """Return the dual's value at these prices: sum_i y_i B_i + sum_j max(0, max_i (d_ij - y_i g_ij)).

    An upper bound of the linear program's objective for any prices >= 0 (weak duality), equal to it at the
    optimal ones (strong duality).
    """
    if not len(quality):
        return float(prices @ budgets)
    best = (quality - prices * cost).max(1)
    return float(prices @ budgets + np.maximum(best, 0.0).sum())
