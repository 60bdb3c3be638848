"""Scores of random routing, the best single LLM and the linear program on the queries of a replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.evaluation.budgets import money_per_llm
from producers.evaluation.queries import ReplayQueries
from routing.accounting import SimulationResult, account_for_counters
from routing.arrays import IntArray
from routing.budgets.counters import Counters
from routing.budgets.money import to_usd
from routing.budgets.splits import best_single
from routing.embedding.query_batch import (
    QueryBatch,
)
from routing.estimators.neighbours import Neighbours
from routing.history.history import EmbeddedHistory, History
from routing.planning.program import RoutingProgram, solve_program

NEIGHBOURS = 5
DRAWS = 20


@dataclass(frozen=True)
class BaselineScore:
    """Performance, cost (USD) and throughput under the accounting rule; means for random routing."""

    performance: float
    cost: float
    throughput: float


def score_random(queries: ReplayQueries, counters: Counters, seed: int = 0) -> BaselineScore:
    """Route each query to a uniformly random LLM; return the mean of `DRAWS` draws."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(counters.models), size=(DRAWS, len(queries)))
    outcomes = [_account(choice, queries, counters) for choice in drawn]
    return BaselineScore(
        float(np.mean([outcome.performance for outcome in outcomes])),
        float(np.mean([outcome.cost for outcome in outcomes])),
        float(np.mean([outcome.throughput for outcome in outcomes])),
    )


def score_best_single(
    queries: ReplayQueries, history: History, counters: Counters
) -> tuple[str, BaselineScore]:
    """Route every query to the LLM that `routing.budgets.splits.best_single` chooses.

    Parameters
    ----------
    queries : ReplayQueries
    history : History
        With the same LLMs.
    counters : Counters
        The chosen LLM can spend whatever budgets cover it.

    Returns
    -------
    name : str
    score : BaselineScore
    """
    money = money_per_llm(counters)
    best = best_single(history.quality.mean(0), history.cost.mean(0), money, len(queries))
    outcome = _account(np.full(len(queries), best), queries, counters)
    return history.models[best], BaselineScore(outcome.performance, outcome.cost, outcome.throughput)


def score_approximate_optimum(
    queries: ReplayQueries,
    embeddings: NDArray[np.float32],
    history: EmbeddedHistory,
    counters: Counters,
) -> BaselineScore:
    """Solve the linear program with these budgets on all queries' estimates; route each to its largest share.

    Parameters
    ----------
    queries : ReplayQueries
    embeddings : ndarray of float32, shape [n, d]
        Embeddings of the queries, in the order of sending.
    history : EmbeddedHistory
        With the same LLMs.
    counters : Counters

    Notes
    -----
    Estimates are plain means of the `NEIGHBOURS` nearest rows of the history, as in the published experiments
    (PORT, arXiv 2509.02718, section 4).
    """
    estimator = Neighbours(history, k=min(NEIGHBOURS, len(history)))
    estimates = estimator.estimate(QueryBatch(queries.prompts, embeddings))
    counters, _ = counters.resolved(queries.terms.values, len(queries))
    limits = to_usd(counters.limits())
    share = solve_program(RoutingProgram.of(counters, estimates, queries.terms, limits)).assignment
    choice = np.where(share.max(1) > 1e-9, share.argmax(1), -1)
    outcome = _account(choice, queries, counters)
    return BaselineScore(outcome.performance, outcome.cost, outcome.throughput)


def _account(choice: IntArray, queries: ReplayQueries, counters: Counters) -> SimulationResult:
    return account_for_counters(choice, queries.quality, queries.cost, counters, queries.terms)
