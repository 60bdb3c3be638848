"""Exploration: queries that go to another LLM than the best one, with known probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.terms import QueryTerms
from routing.policy.draws import Draws
from routing.policy.plan import Plan


@dataclass(frozen=True, eq=False)
class Exploration:
    """The LLMs that the queries of a batch explore.

    Parameters
    ----------
    model : ndarray of int64, shape [n]
        LLM that each query explores, or -1.
    share : ndarray of float64, shape [n, M]
        Probability with which each query explores each LLM.
    """

    model: IntArray
    share: FloatArray

    @classmethod
    def draw(cls, keys: NDArray[np.uint64], share: FloatArray) -> Exploration:
        """Draw the explored LLMs; the same keys always draw the same.

        Parameters
        ----------
        keys : ndarray of uint64, shape [n]
            From `routing.policy.decision.random_keys`.
        share : ndarray of float64, shape [n, M]

        Examples
        --------
        >>> import numpy as np
        >>> keys = np.array([0, 2**62, 2**63], dtype=np.uint64)
        >>> Exploration.draw(keys, np.array([[0.25, 0.25]] * 3)).model.tolist()
        [0, 1, -1]
        """
        uniform = (keys >> np.uint64(11)).astype(np.float64) / 2.0**53
        below = uniform[:, None] < np.cumsum(share, axis=1)
        return cls(np.where(below.any(1), below.argmax(1), -1).astype(np.int64), share)


def equal_shares(n: int, models: int, candidates: IntArray, share: float) -> FloatArray:
    """Return the same probability for each of the candidates, `share` in all, shape [n, M].

    Examples
    --------
    >>> import numpy as np
    >>> equal_shares(1, 3, np.array([0, 2]), 0.5).tolist()
    [[0.25, 0.0, 0.25]]
    """
    shares = np.zeros((n, models))
    if len(candidates):
        shares[:, candidates] = share / len(candidates)
    return shares


def affordable_shares(
    plan: Plan, lane: int, charge: IntArray, terms: QueryTerms, share: float, budget_share: float
) -> FloatArray:
    """Return the probabilities of exploring each LLM, bounded by what exploration may draw, shape [n, M].

    Every open LLM has the same probability, unless its draw is too large for a budget: over a period of the
    expected length, explored queries draw at most `budget_share` of each counter in the mean. Rates renew by
    themselves and are not considered.

    Parameters
    ----------
    plan : Plan
    lane : int
    charge : ndarray of int64, shape [n, M]
        Picodollars that each query reserves.
    terms : QueryTerms
        Tokens and values of groups of the n queries.
    share : float
        Share of the queries that explore, at most.
    budget_share : float
        Share of each budget.

    Examples
    --------
    A query on the second LLM costs a hundred times what the budget has for a query:

    >>> import numpy as np
    >>> plan = Plan(1, 1, 1, ("a", "b"), np.ones(2, bool), np.array([1000, 1000]), np.zeros(2), True,
    ...     np.zeros((1, 2), np.int64), np.zeros((1, 2), np.int64), False, 100)
    >>> affordable_shares(plan, 0, np.array([[1, 1000]]), QueryTerms(), 0.2, 0.5).tolist()
    [[0.1, 0.005]]
    """
    n, models = charge.shape
    active = np.flatnonzero(plan.active)
    shares = equal_shares(n, models, active, share)
    # a query that draws nothing is not bounded
    if plan.per_llm:
        allowance = budget_share * plan.budgets / max(1, plan.horizon)
        return np.minimum(shares, allowance / np.maximum(charge, 1e-9))
    draws = Draws.of(plan.counters, terms.widened(models), charge)
    limits = plan.lane_columns(lane, draws.counters).limits
    for number, budget in enumerate(draws.counters.budgets):
        covered = draws.counters.covers[number]
        if budget.is_rate or not covered[active].any():
            continue
        allowance = budget_share * limits[draws.columns[:, number]] / max(1, plan.horizon)
        query_allowance = allowance[:, None] / covered[active].sum()
        bounded = np.minimum(shares, query_allowance / np.maximum(draws.amounts(number), 1e-9))
        shares = np.where(covered, bounded, shares)
    return shares
