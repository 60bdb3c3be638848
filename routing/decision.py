"""The routing rule: highest quality minus price times cost, among the LLMs that can pay, or unserved."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from routing.estimators.base import FloatArray

TOLERANCE = 1e-6
"""Scores this close are ties, and a score must exceed it to be worth serving: last bits never decide."""

UNSERVED = -1
DEFERRED = -2

IntArray = NDArray[np.int64]


class Exhausted(Enum):
    """What becomes of a query whose best LLM cannot pay."""

    NEXT_BEST = "next-best"
    DEFER = "defer"


def scores(quality: FloatArray, cost: FloatArray, prices: FloatArray) -> FloatArray:
    """d^_ij - gamma_i g^_ij, shape [n, M] (PORT, section 3, routing rule)."""
    return quality - prices * cost


def _pick(score: FloatArray) -> tuple[IntArray, IntArray]:
    """The first LLM within the tolerance of the best, and the best itself, for each row."""
    best = score.argmax(1)
    top = score[np.arange(len(score)), best]
    return (score >= (top - TOLERANCE)[:, None]).argmax(1), best


def choose(
    score: FloatArray,
    charge: IntArray,
    available: IntArray,
    exhausted: Exhausted = Exhausted.NEXT_BEST,
) -> IntArray:
    """Choose an LLM for each query of a batch, in order, each choice charged before the next is made.

    Parameters
    ----------
    score : ndarray of float64, shape [n, M]
        From `scores`; minus infinity closes an LLM.
    charge : ndarray of int64, shape [n, M]
        Picodollars that serving query j with LLM i would take.
    available : ndarray of int64, shape [M]
        Picodollars that each LLM may still spend; not changed.
    exhausted : Exhausted
        Take the next best LLM that can pay, or defer the query.

    Returns
    -------
    ndarray of int64, shape [n]
        Index of the LLM, `UNSERVED` or `DEFERRED`.

    Notes
    -----
    Equal to deciding one query at a time (a test holds it to that), but a whole run of queries is decided at
    once as long as every LLM that matters to them can pay for all of the run.

    Examples
    --------
    >>> choose(np.array([[0.5, 0.4], [0.5, 0.4]]), np.array([[2, 1], [2, 1]]), np.array([3, 9])).tolist()
    [0, 1]
    """
    n = len(score)
    choice = np.full(n, UNSERVED, dtype=np.int64)
    left = np.array(available, dtype=np.int64)
    start, window = 0, n
    while start < n:
        stop = min(n, start + window)
        settled = _run(score[start:stop], charge[start:stop], left, exhausted, choice[start:stop])
        # a run that ends early means an LLM is near its end: look less far ahead until that is over
        window = max(16, 2 * settled) if settled < stop - start else 2 * window
        start += settled
    return choice


def _run(score: FloatArray, charge: IntArray, left: IntArray, exhausted: Exhausted, choice: IntArray) -> int:
    """Decide the longest leading part for which one look at `left` is enough; returns its length."""
    payable = charge <= left
    masked = score if exhausted is Exhausted.DEFER else np.where(payable, score, -np.inf)
    pick, best = _pick(masked)
    rows = np.arange(len(score))
    wanted = masked[rows, best] > TOLERANCE
    able = payable[rows, pick]
    take = np.flatnonzero(wanted & able)
    spend = np.zeros_like(charge)
    spend[take, pick[take]] = charge[take, pick[take]]
    before = np.cumsum(spend, axis=0) - spend
    still = charge + before <= left
    if exhausted is Exhausted.DEFER:
        # what could not be paid for at the start of the run cannot be later
        clean = ~wanted | ~able | still[rows, pick]
    else:
        # the best must stay payable as well as the pick: losing it would move the tie
        clean = ~wanted | (still[rows, pick] & still[rows, best])
    settled = len(score) if clean.all() else int(clean.argmin())
    decided = np.where(able, pick, DEFERRED)[:settled]
    choice[:settled] = np.where(wanted[:settled], decided, UNSERVED)
    left -= spend[:settled].sum(0)
    return settled


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
    left = np.array(available, dtype=np.int64)
    choice = np.full(len(keys), UNSERVED, dtype=np.int64)
    for j, key in enumerate(keys):
        able = np.flatnonzero(open_models & (charge[j] <= left))
        if able.size:
            choice[j] = able[int(key) % able.size]
            left[choice[j]] -= charge[j, choice[j]]
    return choice


def random_keys(seed: int, lane: int, offsets: IntArray) -> NDArray[np.uint64]:
    """A well-mixed number for each offset (splitmix64): the same after a restart, on any worker."""
    mask = (1 << 64) - 1
    base = (seed * 0x9E3779B97F4A7C15 + lane * 0xD1B54A32D192ED03) & mask
    z = np.asarray(offsets, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(base)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
