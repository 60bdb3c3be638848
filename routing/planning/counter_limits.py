"""Limits of counters as the planner sees them: growth of rates, what is left for a program, mean draws."""

from __future__ import annotations

import math

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import CounterKey, Counters
from routing.budgets.money import PICO
from routing.policy.plan import Plan

MIN_BUDGET_SHARE = 1e-9
"""Share of a limit that a program assumes when less is left, so that prices stay finite."""


def units(counters: Counters) -> FloatArray:
    """Return the smallest units in one USD, query or token, [K]."""
    return np.array([PICO if counters.budgets[b].unit == "usd" else 1.0 for b in counters.budget_of], float)


class RateRefill:
    """Growth of the limits of rates by a clock.

    A limit grows by its rate, until what is left reaches the burst. Growth beyond the burst is lost. Time
    never counts twice: if the clock is set back, limits wait until it has caught up.
    """

    def __init__(self) -> None:
        self._at: float | None = None
        self._fraction: dict[tuple[str, str | None], float] = {}

    @property
    def at(self) -> float:
        """Time up to which limits have grown, in seconds; 0 at first."""
        return self._at or 0.0

    def restart(self, now: float) -> None:
        """Count from this time, in seconds, or from the last time if that is later."""
        self._at = now if self._at is None else max(self._at, now)

    def grown(self, plan: Plan, charged: IntArray, now: float) -> IntArray:
        """Return the limits at a time, [K]; limits never fall.

        Parameters
        ----------
        plan : Plan
        charged : ndarray of int64, shape [K]
            By all lanes, as last read.
        now : float
            Seconds since the epoch.
        """
        rates = plan.counters.rates()
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self.restart(now)
        if not rates.any() or not elapsed:
            return plan.budgets
        limits = plan.budgets.copy()
        for column in np.flatnonzero(rates):
            key = plan.counters.keys[column]
            burst = plan.counters.budgets[plan.counters.budget_of[column]].burst_of(key[1])
            growth = rates[column] * elapsed + self._fraction.get(key, 0.0)
            max_limit = max(int(charged[column]) + burst, int(limits[column]))
            grown = min(int(limits[column]) + math.floor(growth), max_limit)
            self._fraction[key] = growth % 1.0 if grown < max_limit else 0.0
            limits[column] = grown
        return limits


def unfilled_rates(plan: Plan, charged: IntArray) -> list[CounterKey]:
    """Return the values of rates of which less than the burst is left, in the order of the counters.

    Parameters
    ----------
    plan : Plan
    charged : ndarray of int64, shape [K]
        By all lanes.
    """
    counters, keys = plan.counters, []
    for column in np.flatnonzero((counters.rates() > 0) & counters.grouped).tolist():
        key = counters.keys[column]
        burst = counters.budgets[counters.budget_of[column]].burst_of(key[1])
        if plan.budgets[column] - charged[column] < burst:
            keys.append(key)
    return keys


def program_limits(
    plan: Plan, charged: IntArray, queries: float, horizon: float, seconds_per_query: float | None
) -> FloatArray:
    """Return what the rows of a program may draw on each counter, in USD, queries or tokens, [K].

    What is left of a counter is divided by the queries that are still expected before its limit renews.
    Counters with different horizons, such as a monthly total and a limit per minute, then fit in one program.

    Parameters
    ----------
    plan : Plan
    charged : ndarray of int64, shape [K]
    queries : float
        Queries that the program stands for.
    horizon : float
        Queries that are still expected in the period.
    seconds_per_query : float, optional
        Pace of the queries. Without it, rates do not count.
    """
    unit = units(plan.counters)
    left = np.maximum(plan.budgets - charged, 0) / unit
    floor = MIN_BUDGET_SHARE * plan.budgets / unit
    rates = plan.counters.rates() / unit
    renewed = np.zeros(len(unit))
    if rates.any():
        renewed = np.where(
            rates > 0, np.inf if seconds_per_query is None else rates * seconds_per_query * queries, 0.0
        )
    limits: FloatArray = np.maximum(left * (queries / horizon) + renewed, floor)
    return limits


def mean_draws(plan: Plan, mean_cost: FloatArray, horizon: float, shares: FloatArray) -> FloatArray:
    """Return the expected draw of a query on each of its counters, in smallest units, [K].

    A budget that is spent evenly has limit / queries for each. LLMs that cost more than that are rare.

    Parameters
    ----------
    plan : Plan
    mean_cost : ndarray of float64, shape [M]
        Picodollars per query.
    horizon : float
        Queries in a period.
    shares : ndarray of float64, shape [K]
        Share of each counter's queries in all queries.
    """
    counters = plan.counters
    evenly: FloatArray = plan.budgets / np.maximum(horizon * np.where(shares > 0, shares, 1.0), 1.0)
    draws, budget_of = evenly, counters.budget_of
    for number, (budget, covered) in enumerate(zip(counters.budgets, counters.covers, strict=True)):
        if budget.unit == "queries":
            draws = np.where(budget_of == number, 1.0, draws)
        elif budget.unit == "usd" and covered.any():
            mean = float(mean_cost[covered].mean())
            draws = np.where(budget_of == number, np.minimum(mean, evenly), draws)
    return np.maximum(np.ceil(draws), 1.0)
