"""Routing rule: the LLM with the highest quality minus price times cost that can pay, or none."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray

TOLERANCE = 1e-6
"""Scores this close are ties, and only a higher score is worth serving: rounding errors never decide."""

UNSERVED = -1
DEFERRED = -2


SERVED, NOT_WORTH_IT, BUDGET_EXHAUSTED, NO_ELIGIBLE_LLM = range(4)
"""Why a query has its place: served or deferred, no LLM is worth its cost, a budget is spent, or no LLM may
answer."""


class Exhausted(Enum):
    """Handling of a query whose best LLM cannot pay: a lane defers it where the pool may pay."""

    NEXT_BEST = "next-best"
    DEFER = "defer"


def scores(quality: FloatArray, cost: FloatArray, prices: FloatArray) -> FloatArray:
    """Return d^_ij - gamma_i g^_ij, shape [n, M] (PORT, section 3, routing rule)."""
    return quality - prices * cost


def _pick(score: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the first LLM within the tolerance of the best, and the best, for each row."""
    best = score.argmax(1)
    top = score[np.arange(len(score)), best]
    return (score >= (top - TOLERANCE)[:, None]).argmax(1), best


class Purse(Protocol):
    """Amounts that a batch may draw, from which `choose` charges its choices."""

    def payable(self, part: slice) -> NDArray[np.bool_]:
        """Return the LLMs that each query of a part could be charged for now, [n, M]."""
        ...

    def deferrable(self, part: slice) -> NDArray[np.bool_] | None:
        """Return the LLMs that are payable, or may be on the overflow lane, [n, M]; None for all."""
        ...

    def spend(self, part: slice, rows: IntArray, pick: IntArray) -> None:
        """Prepare to charge the rows `rows` of a part for the LLMs `pick`, both of the part's rows."""
        ...

    def still_payable(self, model: IntArray) -> NDArray[np.bool_]:
        """Return whether each row's LLM is payable after the charges of the rows before it, [n]."""
        ...

    def still_deferrable(self, model: IntArray) -> NDArray[np.bool_]:
        """Return whether each row's LLM is deferrable after the charges of the rows before it, [n]."""
        ...

    def charge(self, rows: int) -> None:
        """Charge the first rows of what was prepared."""
        ...


class LlmPurse:
    """One budget per LLM.

    Parameters
    ----------
    amounts : ndarray of int64, shape [n, M]
        Picodollars to charge if LLM i serves query j.
    available : ndarray of int64, shape [M]
        Picodollars left to spend on each LLM; not changed.
    """

    def __init__(self, amounts: IntArray, available: IntArray) -> None:
        self._all, self._remaining = amounts, np.array(available, dtype=np.int64)
        self._amounts = self._drawn = self._total = amounts

    def payable(self, part: slice) -> NDArray[np.bool_]:
        """See `Purse`."""
        return self._all[part] <= self._remaining

    def deferrable(self, part: slice) -> None:
        """See `Purse`: the pool has a part of every LLM's budget."""

    def spend(self, part: slice, rows: IntArray, pick: IntArray) -> None:
        """See `Purse`."""
        self._amounts = self._all[part]
        self._drawn = np.zeros_like(self._amounts)
        self._drawn[rows, pick[rows]] = self._amounts[rows, pick[rows]]
        self._total = self._amounts + np.cumsum(self._drawn, axis=0) - self._drawn

    def still_payable(self, model: IntArray) -> NDArray[np.bool_]:
        """See `Purse`."""
        return self._total[np.arange(len(model)), model] <= self._remaining[model]

    def still_deferrable(self, model: IntArray) -> NDArray[np.bool_]:
        """See `Purse`."""
        return np.ones(len(model), dtype=bool)

    def charge(self, rows: int) -> None:
        """See `Purse`."""
        self._remaining -= self._drawn[:rows].sum(0)


def choose(
    score: FloatArray,
    charge: IntArray,
    available: IntArray,
    exhausted: Exhausted = Exhausted.NEXT_BEST,
) -> IntArray:
    """Choose an LLM for each query of a batch in order, charging each choice before the next.

    Parameters
    ----------
    score : ndarray of float64, shape [n, M]
        From `scores`; minus infinity closes an LLM.
    charge : ndarray of int64, shape [n, M]
        Picodollars to charge if LLM i serves query j.
    available : ndarray of int64, shape [M]
        Picodollars left to spend on each LLM; not changed.
    exhausted : Exhausted
        Take the next best LLM that can pay, or defer the query.

    Returns
    -------
    ndarray of int64, shape [n]
        Index of the LLM, `UNSERVED` or `DEFERRED`.

    Notes
    -----
    The result equals deciding one query at a time, as a test checks. A whole run of queries is decided at
    once while every LLM that matters to them can pay for all of the run.

    Examples
    --------
    >>> choose(np.array([[0.5, 0.4], [0.5, 0.4]]), np.array([[2, 1], [2, 1]]), np.array([3, 9])).tolist()
    [0, 1]
    """
    return choose_from(score, LlmPurse(charge, available), exhausted)


def choose_from(score: FloatArray, purse: Purse, exhausted: Exhausted) -> IntArray:
    """Choose an LLM for each query of a batch in order; see `choose`.

    Parameters
    ----------
    score : ndarray of float64, shape [n, M]
    purse : Purse
        It is charged, except for the last run of queries.
    exhausted : Exhausted
    """
    n = len(score)
    choice = np.full(n, UNSERVED, dtype=np.int64)
    start, window = 0, n
    while start < n:
        stop = min(n, start + window)
        length = _run(score[start:stop], slice(start, stop), purse, exhausted, choice[start:stop])
        # A run that ends early means that a budget is nearly spent: use smaller windows.
        window = max(16, 2 * length) if length < stop - start else 2 * window
        start += length
        if start < n:
            purse.charge(length)
    return choice


def _run(score: FloatArray, part: slice, purse: Purse, exhausted: Exhausted, choice: IntArray) -> int:
    """Decide the longest leading part that one check of the purse allows; return its length."""
    payable = purse.payable(part)
    possible = payable if exhausted is Exhausted.NEXT_BEST else purse.deferrable(part)
    masked = score if possible is None else np.where(possible, score, -np.inf)
    pick, best = _pick(masked)
    rows = np.arange(len(score))
    worthwhile = masked[rows, best] > TOLERANCE
    able = payable[rows, pick]
    purse.spend(part, np.flatnonzero(worthwhile & able), pick)
    # Losing the best LLM would change the tie. What could not pay at the start of the run cannot pay later.
    if exhausted is Exhausted.DEFER:
        clean = ~worthwhile | (
            (purse.still_payable(pick) == able) & purse.still_deferrable(pick) & purse.still_deferrable(best)
        )
    else:
        clean = ~worthwhile | (purse.still_payable(pick) & purse.still_payable(best))
    length = len(score) if clean.all() else int(clean.argmin())
    affordable_choice = np.where(able, pick, DEFERRED)[:length]
    choice[:length] = np.where(worthwhile[:length], affordable_choice, UNSERVED)
    return length


def choose_random(
    keys: NDArray[np.uint64], charge: IntArray, available: IntArray, open_models: NDArray[np.bool_]
) -> IntArray:
    """Choose uniformly among the open LLMs that can pay; the same key always draws the same number.

    Parameters
    ----------
    keys : ndarray of uint64, shape [n]
        From `random_keys`.
    charge : ndarray of int64, shape [n, M]
        Picodollars.
    available : ndarray of int64, shape [M]
        Picodollars.
    open_models : ndarray of bool, shape [M]
        LLMs that may be chosen at all.

    Returns
    -------
    ndarray of int64, shape [n]
    """
    return choose_random_from(keys, LlmPurse(charge, available), np.broadcast_to(open_models, charge.shape))


def choose_random_from(keys: NDArray[np.uint64], purse: Purse, open_models: NDArray[np.bool_]) -> IntArray:
    """Choose uniformly among the open LLMs that can pay; see `choose_random`.

    Parameters
    ----------
    keys : ndarray of uint64, shape [n]
    purse : Purse
        It is charged.
    open_models : ndarray of bool, shape [n, M]
    """
    choice = np.full(len(keys), UNSERVED, dtype=np.int64)
    first = np.zeros(1, dtype=np.int64)
    for j, key in enumerate(keys):
        part = slice(j, j + 1)
        able = np.flatnonzero(open_models[j] & purse.payable(part)[0])
        if able.size:
            choice[j] = able[int(key) % able.size]
            purse.spend(part, first, choice[part])
            purse.charge(1)
    return choice


def random_keys(seed: int, lane: int, offsets: IntArray) -> NDArray[np.uint64]:
    """Return a pseudo-random number for each offset (splitmix64), equal on every worker."""
    mask = (1 << 64) - 1
    base = (seed * 0x9E3779B97F4A7C15 + lane * 0xD1B54A32D192ED03) & mask
    z = np.asarray(offsets, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(base)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
