"""What other ways of routing reach on the same queries and budgets: random, the best single LLM, the LP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.asked import Asked
from routing.budgets import best_single
from routing.estimators.base import QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.history import EmbeddedHistory, History
from routing.prices import solve_lp
from routing.simulate import account_for

NEIGHBOURS = 5
DRAWS = 20


@dataclass(frozen=True)
class Reached:
    """Performance, cost (USD) and throughput under the accounting rule; means where it was drawn."""

    performance: float
    cost: float
    throughput: float


def reach_random(asked: Asked, budgets: NDArray[np.float64], seed: int = 0) -> Reached:
    """Each query to an LLM drawn evenly; the mean of `DRAWS` draws."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(budgets), size=(DRAWS, len(asked)))
    found = [account_for(choice, asked.quality, asked.cost, budgets) for choice in drawn]
    return Reached(
        float(np.mean([outcome.performance for outcome in found])),
        float(np.mean([outcome.cost for outcome in found])),
        float(np.mean([outcome.throughput for outcome in found])),
    )


def reach_best_single(asked: Asked, history: History, budgets: NDArray[np.float64]) -> tuple[str, Reached]:
    """Every query to one LLM: that of `routing.budgets.best_single`.

    Parameters
    ----------
    asked : Asked
    history : History
        With the same LLMs.
    budgets : ndarray of float64, shape [M]
        USD, for each LLM if it is the one.

    Returns
    -------
    name : str
    reached : Reached
    """
    best = best_single(history.quality.mean(0), history.cost.mean(0), budgets, len(asked))
    outcome = account_for(np.full(len(asked), best), asked.quality, asked.cost, budgets)
    return history.models[best], Reached(outcome.performance, outcome.cost, outcome.throughput)


def reach_approximate_optimum(
    asked: Asked,
    embeddings: NDArray[np.float32],
    history: EmbeddedHistory,
    budgets: NDArray[np.float64],
) -> Reached:
    """The linear programme on the estimates of all queries at once, each to its largest share.

    Parameters
    ----------
    asked : Asked
    embeddings : ndarray of float32, shape [n, d]
        Of the queries in the order of sending.
    history : EmbeddedHistory
        With the same LLMs.
    budgets : ndarray of float64, shape [M]
        USD.

    Notes
    -----
    Estimates are plain means of the `NEIGHBOURS` nearest rows of the history, as in the published experiments
    (PORT, arXiv 2509.02718, section 4).
    """
    estimator = Neighbours(history, k=min(NEIGHBOURS, len(history)))
    estimates = estimator.estimate(QueryBatch(asked.prompts, embeddings))
    share = solve_lp(estimates.quality, estimates.cost, budgets).assignment
    choice = np.where(share.max(1) > 1e-9, share.argmax(1), -1)
    outcome = account_for(choice, asked.quality, asked.cost, budgets)
    return Reached(outcome.performance, outcome.cost, outcome.throughput)
