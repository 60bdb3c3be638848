"""Grants: the planner hands budgets out to lanes without a shared counter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray

POOL_SHARE = 0.2
"""Share of the remaining budget that the overflow lane's pool keeps."""

MIN_QUERIES_PER_LANE = 4
"""The pool keeps an LLM's whole budget if the rest pays for fewer queries per lane than this."""

MIN_QUERIES_TO_DISTRIBUTE = 64
"""The pool keeps an LLM's whole budget if the rest pays for fewer queries than this in total."""

MIN_GRANT_ROUNDS = 8
"""The pool keeps all budgets if fewer grant rounds than this are left in the period. Grants need two rounds
to move, and no lane can spend grants that are moving or left over on another lane."""

GRANT_TOLERANCE = 0.1
"""Share of a target by which targets may be off, or grants may be short, before the plan changes."""


HOME_SHARE = 0.999
"""Share of a counter's queries from which it belongs to one lane, which gets the whole of it.

The queries of other lanes are not paid then: no counter is left in the pool, to which those lanes defer them.
"""

FIRST_SHARE = 0.2
"""Share of the limit of a new value that the overflow lane may spend before the planner knows the value."""


@dataclass(frozen=True)
class CounterShares:
    """Traffic of the counters of budgets with `group_by`, by lane.

    Parameters
    ----------
    grouped : ndarray of bool, shape [K]
        The other counters follow the traffic of all queries.
    share : ndarray of float64, shape [lanes, K]
        Share of each lane in the recent queries of a counter; 0 for a counter without queries.
    rate : ndarray of bool, shape [K]
        Counters whose limit grows with time.
    covers : ndarray of bool, shape [K, M]
        Active LLMs that draw on each counter. A query is paid in one place, by all its counters.
    budget : ndarray of int, shape [K]
        Position of each counter's budget.
    """

    grouped: NDArray[np.bool_]
    share: FloatArray
    rate: NDArray[np.bool_]
    covers: NDArray[np.bool_]
    budget: NDArray[np.intp]


@dataclass(frozen=True)
class Grants:
    """Grants and targets of the lanes.

    Parameters
    ----------
    granted : ndarray of int64, shape [L, M]
        Cumulative grants, picodollars.
    target : ndarray of int64, shape [L, M]
        Picodollars that a lane should hold.
    shortfall : ndarray of int64, shape [M]
        Picodollars that all lanes together miss.
    """

    granted: IntArray
    target: IntArray
    shortfall: IntArray

    def differs_enough(self, granted: IntArray, target: IntArray) -> bool:
        """Return whether grants differ by more than `GRANT_TOLERANCE`.

        Every change of the plan costs each lane a transaction.

        Parameters
        ----------
        granted, target : ndarray of int64, shape [L, M]
            Of the plan in force.
        """
        more_granted = self.granted - granted > GRANT_TOLERANCE * self.target
        other_target = np.abs(self.target - target) > GRANT_TOLERANCE * target
        # The shortfall may be large for the lanes and small for the pool that has to give it back.
        tolerated = GRANT_TOLERANCE * self.target[:-1].sum(0)
        pool_gives_back = (self.shortfall > tolerated) & (target[-1] - self.target[-1] > tolerated)
        return bool(more_granted.any() or other_target.any() or pool_gives_back.any())


def grant(
    budgets: IntArray,
    granted: IntArray,
    released: IntArray,
    charged: IntArray,
    traffic: FloatArray,
    mean_cost: FloatArray,
    *,
    overflow: bool,
    grant_rounds_left: float = math.inf,
    lane_share: float = 1.0,
    by_counter: CounterShares | None = None,
) -> Grants:
    """Grant the free budgets to lanes, towards targets by traffic.

    The result is safe on outdated accounts: `released` and `charged` are earlier states of the ledgers.
    Grants that some lane still holds, granted - released, count as spent. So the sum of grants less releases
    never exceeds the budget, whatever has happened since.

    Parameters
    ----------
    budgets : ndarray of int64, shape [K]
        Limits of the counters in the period, in their smallest units.
    granted : ndarray of int64, shape [L, K]
        Granted before; the result is never below it.
    released, charged : ndarray of int64, shape [L, K]
        As last read from the ledgers.
    traffic : ndarray of float64, shape [L] or [L - 1]
        Recent queries by lane, without the overflow lane (the last).
    mean_cost : ndarray of float64, shape [K]
        Mean draw of a query on each counter.
    overflow : bool
        Whether the last lane is the overflow lane, which holds the pool.
    grant_rounds_left : float
        Expected number of grant rounds until the period ends.
    lane_share : float
        Share of the undecided queries that lanes may hold grants for. The others wait for the pool already.
    by_counter : CounterShares, optional
        Traffic of counters of budgets with `group_by`. A counter whose queries come mostly from one lane is
        granted to it whole, unless its queries also draw on counters that only the pool holds. Until a
        value's first query is known, the overflow lane gets `FIRST_SHARE`.

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
    # The sum of charges that are at their maximum may exceed int64.
    remaining = np.where(
        charged.sum(0, dtype=np.float64) < budgets, np.maximum(budgets - charged.sum(0), 0), 0
    )
    holding = granted - released - charged
    free = np.maximum(budgets - (granted - released).sum(0), 0)
    target = np.zeros_like(granted)
    shortfall = np.zeros_like(budgets)
    local = _local(remaining, lanes, mean_cost, grant_rounds_left, lane_share) if overflow else remaining
    target[:lanes] = _targets(local, lanes, traffic)
    if by_counter is not None:
        _follow_own_traffic(target, local, remaining, holding, by_counter, lanes, overflow)
    # Grants are cumulative: one that reaches the maximum of int64 does not grow.
    room = np.iinfo(np.int64).max - granted
    need = np.minimum(np.maximum(target[:lanes] - holding[:lanes], 0), room[:lanes])
    handed = _shares(need, free)
    rest = np.minimum(free - handed.sum(0), room[-1])
    if by_counter is not None and overflow:
        unknown = by_counter.grouped & (by_counter.share.sum(0) <= 0)
        first = np.maximum((FIRST_SHARE * budgets).astype(np.int64) - granted[lanes], 0)
        rest = np.where(unknown, np.minimum(rest, first), rest)
    result = granted.copy()
    result[:lanes] += handed
    if overflow:
        result[lanes] += rest
        # The pool gives back the lanes' shortfall and the amount that a lowered budget does not cover.
        shortfall = np.maximum((target[:lanes] - holding[:lanes] - handed).sum(0), 0)
        uncovered = remaining - target[:lanes].sum(0)
        target[lanes] = np.maximum(np.minimum(holding[lanes] + rest - shortfall, uncovered), 0)
    elif lanes == 1:
        # A single lane holds everything and gives back only after a budget was lowered.
        result[0] += rest
        over = (granted - released).sum(0) > budgets
        if by_counter is not None:
            # A rate's limit grows all the time: plans compare what is left, not the sum.
            over = over | by_counter.rate
        target[0] = np.where(over, remaining, np.maximum(budgets, result[0]))
    return Grants(result, target, shortfall)


def _follow_own_traffic(
    target: IntArray,
    local: IntArray,
    remaining: IntArray,
    holding: IntArray,
    by_counter: CounterShares,
    lanes: int,
    overflow: bool,
) -> None:
    """Set the lanes' targets of counters with their own traffic."""
    if lanes == 1 and not overflow:
        return
    share = by_counter.share
    home = share.max(0) >= HOME_SHARE
    at_lanes = home
    if overflow:
        partly_pooled, fully_pooled = _drawn_with_pool(local, remaining, by_counter)
        local = np.where(fully_pooled, 0, local)
        at_lanes = home & ~partly_pooled & ~fully_pooled
    undivided = np.where(np.arange(lanes)[:, None] == share.argmax(0), remaining, 0)
    spread = np.floor(share * local).astype(np.int64)
    own = np.where(at_lanes, undivided, spread)
    if not overflow:
        # Without a pool, a lane keeps its part of a counter until the counter's traffic is known.
        own = np.where(share.sum(0) > 0, own, holding[:lanes])
    target[:lanes] = np.where(by_counter.grouped, own, target[:lanes])


def _drawn_with_pool(
    local: IntArray, remaining: IntArray, by_counter: CounterShares
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the counters of which some, or all, LLMs draw on a counter that only the pool holds, each [K].

    A lane that holds the whole of such a counter could not pay a query, and neither could the pool. With two
    budgets that have `group_by`, the counters of a query may have different homes.
    """
    covers, grouped = by_counter.covers, by_counter.grouped
    pooled = covers[~grouped & (local == 0) & (remaining > 0)].any(axis=0)
    drawn = covers & pooled
    groups = len(np.unique(by_counter.budget[grouped]))
    some = drawn.any(axis=1) | (groups > 1)
    return some, drawn.any(axis=1) & (drawn == covers).all(axis=1)


def _local(
    remaining: IntArray, lanes: int, mean_cost: FloatArray, grant_rounds_left: float, lane_share: float
) -> IntArray:
    """Return the amount that all lanes together hold beside the pool, shape [M]."""
    pooled = (remaining < max(lanes * MIN_QUERIES_PER_LANE, MIN_QUERIES_TO_DISTRIBUTE) * mean_cost) | (
        grant_rounds_left < MIN_GRANT_ROUNDS
    )
    return np.where(pooled, 0, ((1 - POOL_SHARE) * lane_share * remaining).astype(np.int64))


def _targets(local: IntArray, lanes: int, traffic: FloatArray) -> IntArray:
    """Divide `local` over the lanes by traffic, shape [lanes, M]."""
    traffic = np.asarray(traffic, dtype=np.float64)[:lanes] + 1.0
    share = traffic / traffic.sum()
    target: IntArray = np.floor(share[:, None] * local).astype(np.int64)
    # The busiest lane gets the rounding error, which is negative where floats are coarse.
    target[share.argmax()] += local - target.sum(0)
    np.maximum(target, 0, out=target)
    return target


def _shares(need: IntArray, free: IntArray) -> IntArray:
    """Divide `free` in proportion to `need`; the sum never exceeds `free`; shape [lanes, M]."""
    total = need.sum(0)
    part = np.where(total > 0, np.minimum(1.0, free / np.maximum(total, 1)), 0.0)
    handed: IntArray = np.minimum(np.floor(need * part).astype(np.int64), need)
    # A float product can be too high beyond 2**53.
    handed -= np.where(handed.sum(0) > free, np.minimum(handed, 1 + handed // 2**50), 0)
    # The neediest lane gets the picodollars left by rounding; otherwise they would stay unused.
    models = np.arange(need.shape[1])
    neediest = need.argmax(0)
    remainder = np.minimum(free - handed.sum(0), need[neediest, models] - handed[neediest, models])
    handed[neediest, models] += np.maximum(remainder, 0)
    return handed
