"""Rights in escrow: how the planner hands budgets out to lanes without a shared counter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from routing.decision import IntArray
from routing.estimators.base import FloatArray

RESERVE = 0.2
"""Share of what is left that the pool of the overflow lane keeps."""

LUMP = 4
"""An LLM whose rest pays fewer than this many queries a lane lives in the pool alone."""

POOLED = 64
"""So does one whose rest pays fewer queries than this, however few lanes there are."""

LOOKS = 8
"""So does every LLM when the period ends in fewer looks of the planner: rights take two to move, and those
that are on their way, or left over in a lane, are nobody's."""

SLACK = 0.1
"""Share of a target by which it may be wrong, and rights may be missing, before that is put right."""


@dataclass(frozen=True)
class Grants:
    """Cumulative grants and targets, both int64 [L, M] in picodollars, and what lanes lack together, [M]."""

    granted: IntArray
    target: IntArray
    lack: IntArray

    def moved(self, granted: IntArray, target: IntArray) -> bool:
        """Rights differ from these by more than `SLACK`: each change costs every lane a transaction."""
        more = self.granted - granted > SLACK * self.target
        other = np.abs(self.target - target) > SLACK * target
        # what lanes lack may be much to them, and little to the pool that has to give it back
        enough = SLACK * self.target[:-1].sum(0)
        asked = (self.lack > enough) & (target[-1] - self.target[-1] > enough)
        return bool(more.any() or other.any() or asked.any())


def grant(
    budgets: IntArray,
    granted: IntArray,
    released: IntArray,
    charged: IntArray,
    traffic: FloatArray,
    mean_cost: FloatArray,
    *,
    overflow: bool,
    looks_left: float = math.inf,
    ahead: float = 1.0,
) -> Grants:
    """Hand out what is free, towards targets by traffic.

    Safe on a stale view: `released` and `charged` are what lanes wrote some time ago. Rights still held
    somewhere, granted - released as seen, are counted as gone, so the sum of grants less releases never
    passes the budget, whatever has happened since.

    Parameters
    ----------
    budgets : ndarray of int64, shape [M]
        Picodollars of the period.
    granted : ndarray of int64, shape [L, M]
        Granted before; the result is never below it.
    released, charged : ndarray of int64, shape [L, M]
        As last read from the ledgers.
    traffic : ndarray of float64, shape [L] or [L - 1]
        Queries that arrive on each lane lately, the overflow lane (last) left out.
    mean_cost : ndarray of float64, shape [M]
        Picodollars that one query costs.
    overflow : bool
        The last lane is the overflow lane and holds the pool.
    looks_left : float
        How often rights will be handed out until the period ends, as far as is known.
    ahead : float
        Share of the undecided queries that lanes still have before them; the rest waits for the pool already,
        and what it will cost is not for lanes to hold.

    Returns
    -------
    Grants

    Examples
    --------
    >>> none = np.zeros((2, 1), dtype=np.int64)
    >>> grants = grant(np.array([100]), none, none, none, np.ones(2), np.array([1.0]), overflow=False)
    >>> grants.granted.ravel().tolist()
    [50, 50]
    """
    lanes = len(granted) - 1 if overflow else len(granted)
    # the sum of charges that stopped at their most may be beyond int64
    left = np.where(charged.sum(0, dtype=np.float64) < budgets, np.maximum(budgets - charged.sum(0), 0), 0)
    held = granted - released - charged
    free = np.maximum(budgets - (granted - released).sum(0), 0)
    target = np.zeros_like(granted)
    lack = np.zeros_like(budgets)
    local = _local(left, lanes, mean_cost, looks_left, ahead) if overflow else left
    target[:lanes] = _targets(local, lanes, traffic)
    # grants are cumulative: where one comes to the end of int64, rights stay where they are
    room = np.iinfo(np.int64).max - granted
    need = np.minimum(np.maximum(target[:lanes] - held[:lanes], 0), room[:lanes])
    handed = _shares(need, free)
    rest = np.minimum(free - handed.sum(0), room[-1])
    result = granted.copy()
    result[:lanes] += handed
    if overflow:
        result[lanes] += rest
        # the pool gives back what the lanes as a whole lack, and what a lowered budget does not cover
        lack = np.maximum((target[:lanes] - held[:lanes] - handed).sum(0), 0)
        uncovered = left - target[:lanes].sum(0)
        target[lanes] = np.maximum(np.minimum(held[lanes] + rest - lack, uncovered), 0)
    elif lanes == 1:
        # one lane holds everything; only a budget that was lowered makes it give back
        result[0] += rest
        over = (granted - released).sum(0) > budgets
        target[0] = np.where(over, left, np.maximum(budgets, result[0]))
    return Grants(result, target, lack)


def _local(left: IntArray, lanes: int, mean_cost: FloatArray, looks_left: float, ahead: float) -> IntArray:
    """What lanes hold together when there is a pool, shape [M]."""
    pooled = (left < max(lanes * LUMP, POOLED) * mean_cost) | (looks_left < LOOKS)
    return np.where(pooled, 0, ((1 - RESERVE) * ahead * left).astype(np.int64))


def _targets(local: IntArray, lanes: int, traffic: FloatArray) -> IntArray:
    """What each lane should hold of `local`, by its share of the traffic, shape [lanes, M]."""
    traffic = np.asarray(traffic, dtype=np.float64)[:lanes] + 1.0
    share = traffic / traffic.sum()
    target = np.floor(share[:, None] * local).astype(np.int64)
    # rounding's rest, or where floats are coarse its excess, is the busiest lane's
    target[share.argmax()] += local - target.sum(0)
    return np.maximum(target, 0)


def _shares(need: IntArray, free: IntArray) -> IntArray:
    """Divide what is free in proportion to needs; together never more than is free, shape [lanes, M]."""
    total = need.sum(0)
    part = np.where(total > 0, np.minimum(1.0, free / np.maximum(total, 1)), 0.0)
    handed = np.minimum(np.floor(need * part).astype(np.int64), need)
    # a float product can be too high beyond 2**53; never hand out more than is free
    handed -= np.where(handed.sum(0) > free, np.minimum(handed, 1 + handed // 2**50), 0)
    # picodollars of rounding go where most is needed, or they would stay with nobody
    models = np.arange(need.shape[1])
    neediest = need.argmax(0)
    crumbs = np.minimum(free - handed.sum(0), need[neediest, models] - handed[neediest, models])
    handed[neediest, models] += np.maximum(crumbs, 0)
    return handed
