"""Budgets of an evaluation: the total and its split over LLMs."""

from __future__ import annotations

import numpy as np

from routing.arrays import FloatArray

LEAST_COST = 1e-15
"""USD; replaces a cost of 0 in divisions."""

SPLITS = ("weighted", "cost", "perf", "uniform", "random", "extreme")

SHARED = "shared"
"""Name, beside those of the splits, of one total that all LLMs share."""


def total_budget(true_cost: FloatArray, factor: float = 1.0) -> float:
    """Return `factor` times the cost of serving every query with the cheapest LLM, in USD (PORT, section 4).

    LLMs that cost nothing are ignored: a budget of 0 would stop all others.

    Parameters
    ----------
    true_cost : ndarray of float64, shape [n, M]
        USD.
    factor : float
        The budget factor, positive.

    Raises
    ------
    ValueError
        The factor is not positive, or every LLM costs nothing.

    Examples
    --------
    >>> total_budget(np.array([[1.0, 2.0], [1.0, 3.0]]), 0.5)
    1.0
    >>> total_budget(np.array([[0.0, 2.0], [0.0, 3.0]]), 0.5)
    2.5
    """
    if factor <= 0:
        raise ValueError(f"factor: {factor} must be positive")
    totals = np.asarray(true_cost).sum(0)
    if not (totals > 0).any():
        raise ValueError(
            "cost: every LLM costs nothing on these queries, so a budget has no meaning; "
            "give the costs in USD of at least one LLM"
        )
    return float(factor * totals[totals > 0].min())


def split_budget(
    total: float,
    quality_mean: FloatArray,
    cost_mean: FloatArray,
    how: str = "weighted",
    *,
    seed: int = 0,
    h: int = 1,
) -> FloatArray:
    """Split a total budget over LLMs by one of the paper's six rules.

    An LLM that costs nothing counts as the cheapest of the others; a single LLM gets everything.

    Parameters
    ----------
    total : float
        USD.
    quality_mean, cost_mean : ndarray of float64, shape [M]
        Means over the history.
    how : {"weighted", "cost", "perf", "uniform", "random", "extreme"}
        sqrt(quality / cost), sqrt(1 / cost), quality, equal, U[5, 30], or 80 % on the `h` LLMs of the lowest
        quality / cost and the rest evenly.
    seed : int
        Of the random split.
    h : int
        Of the extreme split, 1 to M - 1.

    Returns
    -------
    ndarray of float64, shape [M]
        USD, sums to `total`.

    References
    ----------
    PORT, arXiv 2509.02718, section 4 and appendix (budget splits).

    Examples
    --------
    >>> split_budget(3.0, np.array([0.8, 0.2]), np.array([0.2, 0.2]), "weighted").round(6).tolist()
    [2.0, 1.0]
    """
    quality_mean, cost_mean = np.asarray(quality_mean, float), np.asarray(cost_mean, float)
    if np.any(cost_mean < 0):
        raise ValueError(f"cost_mean: {cost_mean} must be 0 or more")
    free = cost_mean == 0
    cost_mean = np.where(free, 1.0 if free.all() else np.min(cost_mean[~free]), cost_mean)
    models = len(quality_mean)
    if how == "weighted":
        weight = np.sqrt(np.maximum(quality_mean, 0) / cost_mean)
    elif how == "cost":
        weight = np.sqrt(1 / cost_mean)
    elif how == "perf":
        weight = np.maximum(quality_mean, 0)
    elif how == "uniform":
        weight = np.ones(models)
    elif how == "random":
        weight = np.random.default_rng(seed).uniform(5, 30, models)
    elif how == "extreme":
        if not 1 <= h < max(2, models):
            raise ValueError(f"h: {h} must be between 1 and {models - 1}")
        weight = np.full(models, 0.2 / max(1, models - h))
        weight[np.argsort(quality_mean / cost_mean, kind="stable")[:h]] = 0.8 / h
    else:
        raise ValueError(f"how: {how!r} is not one of {', '.join(SPLITS)}")
    if weight.sum() <= 0:
        weight = np.ones(models)
    shares: FloatArray = total * weight / weight.sum()
    return shares


def best_single(quality_mean: FloatArray, cost_mean: FloatArray, budgets: FloatArray, queries: int) -> int:
    """Return the LLM that serves the highest quality within its own budget if it gets every query.

    Parameters
    ----------
    quality_mean, cost_mean : ndarray of float64, shape [M]
        Means over the history; cost in USD.
    budgets : ndarray of float64, shape [M]
        USD.
    queries : int
        N, the number of queries.

    Returns
    -------
    int
        argmax_i quality_i min(N, B_i / cost_i); the first of ties.

    Examples
    --------
    The second LLM answers better, but its budget pays for ten of a hundred queries.

    >>> best_single(np.array([0.5, 0.9]), np.array([0.01, 0.1]), np.array([1.0, 1.0]), 100)
    0
    """
    served = np.minimum(queries, np.asarray(budgets, float) / np.maximum(cost_mean, LEAST_COST))
    return int(np.argmax(served * np.asarray(quality_mean, float)))
