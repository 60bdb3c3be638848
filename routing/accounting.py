"""The accounting rule of the evaluation: a query counts only while true costs stay within the budgets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import Counters
from routing.budgets.money import to_usd
from routing.budgets.terms import QueryTerms


@dataclass(frozen=True)
class SimulationResult:
    """Result of a list of decisions under the paper's accounting rule.

    Parameters
    ----------
    performance : float
        Sum of the true quality of the served queries.
    cost : float
        USD spent.
    throughput : int
        Queries served.
    counted : ndarray of bool, shape [n]
        Whether each query counted.
    spent : ndarray of float64, shape [M]
        USD by LLM.
    """

    performance: float
    cost: float
    throughput: int
    counted: NDArray[np.bool_]
    spent: FloatArray


def account_for(
    choice: IntArray, quality: FloatArray, cost: FloatArray, budgets: FloatArray
) -> SimulationResult:
    """Apply the accounting rule of the evaluation (PORT, section 4).

    A query sent to LLM i counts only while the sum of LLM i's true costs, this query included, stays within
    B_i; otherwise it is lost and costs nothing.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
        LLM of each query in the order of arrival; negative if not sent.
    quality, cost : ndarray of float64, shape [n, M]
        True values.
    budgets : ndarray of float64, shape [M]
        USD.

    Examples
    --------
    >>> result = account_for(np.array([0, 0, -1]), np.ones((3, 1)), np.full((3, 1), 0.6), np.array([1.0]))
    >>> result.performance, result.throughput
    (1.0, 1)
    """
    spent = np.zeros(len(budgets))
    counted = np.zeros(len(choice), dtype=bool)
    limit = budgets * (1 + 1e-12)
    for i in range(len(budgets)):
        for j in np.flatnonzero(choice == i):
            if spent[i] + cost[j, i] <= limit[i]:
                spent[i] += cost[j, i]
                counted[j] = True
    rows = np.flatnonzero(counted)
    return SimulationResult(
        float(quality[rows, choice[rows]].sum()), float(spent.sum()), int(counted.sum()), counted, spent
    )


def account_for_counters(
    choice: IntArray,
    quality: FloatArray,
    cost: FloatArray,
    counters: Counters,
    terms: QueryTerms = QueryTerms(),  # noqa: B008
) -> SimulationResult:
    """Apply the accounting rule to budgets of any kind in US dollars.

    A query counts only while the true costs of every counter that it draws on stay within the limit;
    otherwise it is lost and costs nothing. Limits in queries or tokens hold by the decisions.

    Parameters
    ----------
    choice, quality, cost
        As in `account_for`.
    counters : Counters
    terms : QueryTerms
        Values of the fields that budgets are grouped by.

    Examples
    --------
    >>> from routing.budgets.budget import Budget
    >>> counters = Counters.of((Budget("total", limit=1.0),), ("a", "b"))
    >>> choice, costs = np.array([0, 1, 1]), np.array([[0.6, 0.5], [0.6, 0.5], [0.1, 0.4]])
    >>> account_for_counters(choice, np.ones((3, 2)), costs, counters).counted.tolist()
    [True, False, True]
    """
    counters, columns = counters.resolved(terms.values, len(choice))
    limits = to_usd(counters.limits()) * (1 + 1e-12)
    usd = [number for number, one in enumerate(counters.budgets) if one.unit == "usd" and not one.is_rate]
    counted = np.zeros(len(choice), dtype=bool)
    spent_of, spent = np.zeros(len(limits)), np.zeros(cost.shape[1])
    for j in np.flatnonzero(choice >= 0):
        i = choice[j]
        drawn = [columns[j, number] for number in usd if counters.covers[number, i]]
        if (spent_of[drawn] + cost[j, i] <= limits[drawn]).all():
            spent_of[drawn] += cost[j, i]
            spent[i] += cost[j, i]
            counted[j] = True
    rows = np.flatnonzero(counted)
    return SimulationResult(
        float(quality[rows, choice[rows]].sum()), float(spent.sum()), int(counted.sum()), counted, spent
    )
