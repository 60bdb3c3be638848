"""Propensity: the probability with which a query got the decision that it got."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.policy.decision import DEFERRED, TOLERANCE, UNSERVED, Purse


def payable_in_turn(
    make_purse: Callable[[], Purse], choice: IntArray
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the LLMs that can be charged for each query, and those that it may wait for, both [n, M].

    After the charges of the queries before it. The second ones include the first ones.

    Parameters
    ----------
    make_purse : callable
        Returns the purse as it was before the batch.
    choice : ndarray of int64, shape [n]
    """
    purse, batch, served = make_purse(), slice(0, len(choice)), np.flatnonzero(choice >= 0)
    before, possible = _payable(purse, batch)
    purse.spend(batch, served, choice)
    purse.charge(len(choice))
    after = _payable(purse, batch)
    if (before == after[0]).all() and (possible == after[1]).all():
        return before, possible
    purse, first = make_purse(), np.zeros(1, dtype=np.int64)
    for row in range(len(choice)):
        part = slice(row, row + 1)
        before[part], possible[part] = _payable(purse, part)
        if choice[row] >= 0:
            purse.spend(part, first, choice[part])
            purse.charge(1)
    return before, possible


def _payable(purse: Purse, part: slice) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    payable = purse.payable(part)
    possible = purse.deferrable(part)
    return payable, np.ones_like(payable) if possible is None else possible


def propensity(
    choice: IntArray,
    score: FloatArray,
    payable: NDArray[np.bool_],
    share: FloatArray,
    possible: NDArray[np.bool_],
) -> FloatArray:
    """Return the probability of each choice, shape [n].

    A query explores LLM i with the probability `share[i]`; if that is not possible, or else, its best LLM
    follows.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
    score : ndarray of float64, shape [n, M]
        Without exploration; minus infinity for LLMs that are chosen by exploration only, or not at all.
    payable : ndarray of bool, shape [n, M]
        From `payable_in_turn`.
    share : ndarray of float64, shape [n, M]
        0 for LLMs that may not answer.
    possible : ndarray of bool, shape [n, M]
        LLMs that can pay, or for which the query is deferred.

    Examples
    --------
    >>> import numpy as np
    >>> score, able = np.array([[0.9, 0.5]] * 2), np.ones((2, 2), bool)
    >>> propensity(np.array([0, 1]), score, able, np.full((2, 2), 0.1), able).tolist()
    [0.9, 0.1]
    """
    rows = np.arange(len(choice))
    masked = np.where(possible, score, -np.inf)
    top = masked.max(1, initial=-np.inf)
    best = (masked >= (top - TOLERANCE)[:, None]).argmax(1)
    greedy = np.where(payable[rows, best], best, DEFERRED)
    greedy = np.where(top > TOLERANCE, greedy, UNSERVED)
    tried = np.where(payable, share, 0.0)
    lost = np.where(possible & ~payable, share, 0.0).sum(1)
    explored = np.where(choice >= 0, tried[rows, np.maximum(choice, 0)], 0.0)
    explored = np.where(choice == DEFERRED, lost, explored)
    total = explored + np.where(greedy == choice, 1.0 - tried.sum(1) - lost, 0.0)
    bounded: FloatArray = np.minimum(np.maximum(total, 0.0), 1.0)
    return bounded


def random_propensity(payable: NDArray[np.bool_]) -> FloatArray:
    """Return the probability of each choice of a random warm-up, shape [n].

    Parameters
    ----------
    payable : ndarray of bool, shape [n, M]
        LLMs that may answer and can pay; they are equally likely.
    """
    equal: FloatArray = 1.0 / np.maximum(1, payable.sum(1))
    return equal
