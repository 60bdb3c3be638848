"""Prices of counters from sampled queries and rows of the history, by the solver in the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import Counters
from routing.budgets.money import to_usd
from routing.budgets.terms import QueryTerms, concatenate
from routing.estimators.base import Estimates
from routing.feedback.plan_correction import corrected, offsets_of
from routing.planning.counter_limits import program_limits
from routing.planning.counter_traffic import value_shares
from routing.planning.price_solver import solve_prices
from routing.planning.program import RoutingProgram, solve_program
from routing.planning.program_newton import newton_program_prices
from routing.policy.pause import paused_columns
from routing.policy.plan import Plan

MIN_SAMPLED_TERMS = 30
"""Samples from which history rows take weights, eligible LLMs and tokens."""

SAMPLES_PER_VALUE = 20
"""Samples for each value from which history rows take their values; before, values are independent."""


def shares_of(counters: Counters, arrivals: IntArray) -> FloatArray:
    """Return the expected share of each counter's queries in all queries, [K]; 1 for fixed counters.

    Parameters
    ----------
    counters : Counters
    arrivals : ndarray of int64, shape [K]
        Queries of the period with each value, over all lanes.
    """
    shares = np.ones(len(counters))
    for number, budget in enumerate(counters.budgets):
        if budget.group_by is not None:
            columns = np.flatnonzero((counters.budget_of == number) & counters.grouped)
            listed = np.array([counters.keys[column][1] in budget.limits for column in columns])
            shares[columns] = value_shares(listed, arrivals[columns])
    return shares


def terms_like(
    counters: Counters, rows: int, samples: tuple[int, QueryTerms], shares: FloatArray
) -> QueryTerms:
    """Return terms for rows of the history, which have none: like those of the samples.

    Parameters
    ----------
    counters : Counters
    rows : int
    samples : (int, QueryTerms)
        Number of recent queries, and their terms.
    shares : ndarray of float64, shape [K]
        From `shares_of`.
    """
    random = np.random.default_rng(rows)
    count, sample_terms = samples
    drawn_terms = QueryTerms()
    if count >= MIN_SAMPLED_TERMS and not sample_terms.empty:
        drawn_terms = sample_terms.rows(random.integers(0, count, rows))
    values = dict(drawn_terms.values)
    for number, budget in enumerate(counters.budgets):
        if budget.group_by is None:
            continue
        columns = np.flatnonzero((counters.budget_of == number) & counters.grouped)
        share = shares[columns]
        if share.sum() <= 0 or (
            budget.group_by in values and count >= SAMPLES_PER_VALUE * np.count_nonzero(share)
        ):
            continue
        names = [counters.keys[column][1] or "" for column in columns]
        positions = random.choice(len(columns), size=rows, p=share / share.sum())
        values[budget.group_by] = [names[place] for place in positions]
    return QueryTerms(drawn_terms.weight, drawn_terms.eligible, drawn_terms.tokens, values)


@dataclass(frozen=True)
class CounterPricing:
    """State from which prices are solved.

    Parameters
    ----------
    solver : {"exact", "newton"}
    plan : Plan
        In force.
    charged : ndarray of int64, shape [K]
        By all lanes.
    shares : ndarray of float64, shape [K]
        From `shares_of`.
    seconds_per_query : float or None
        Pace of the queries, if it is known.
    """

    solver: Literal["exact", "newton"]
    plan: Plan
    charged: IntArray
    shares: FloatArray
    seconds_per_query: float | None

    def prices(
        self,
        estimates: Estimates,
        mass: FloatArray | None,
        rows_from: int,
        samples: tuple[int, QueryTerms],
        horizon: float,
    ) -> FloatArray:
        """Return the price of every counter, [K].

        Parameters
        ----------
        estimates : Estimates
            Of the samples, then of rows of the history, which have no terms of their own.
        mass : ndarray of float64, shape [n], optional
            Number of queries that each row stands for; one by default.
        rows_from : int
            First row of the history.
        samples : (int, QueryTerms)
            Number of samples, and their terms, from which history rows take theirs.
        horizon : float
            Queries that are still expected in the period.
        """
        plan, terms = self.plan, samples[1]
        estimates = corrected(estimates, offsets_of(plan.correction, plan.models))
        stands_for = len(estimates) if mass is None else float(mass.sum())
        if plan.per_llm and terms.empty:
            remaining = to_usd(np.maximum(plan.budgets - self.charged, 0))
            return solve_prices(self.solver, plan, estimates, remaining * (stands_for / horizon), mass)
        more = len(estimates) - rows_from
        if more:
            drawn = terms_like(plan.counters, more, samples, self.shares)
            terms = concatenate(
                [(rows_from, terms), (more, drawn)] if rows_from else [(more, drawn)], len(plan.models)
            )
        limits = program_limits(plan, self.charged, stands_for, horizon, self.seconds_per_query)
        return solve_counters(self.solver, plan, estimates, terms, limits, mass, self.shares)


def solve_counters(
    solver: Literal["exact", "newton"],
    plan: Plan,
    estimates: Estimates,
    terms: QueryTerms,
    limits: FloatArray,
    mass: FloatArray | None,
    shares: FloatArray,
) -> FloatArray:
    """Return the price of every counter, [K].

    Parameters
    ----------
    solver : {"exact", "newton"}
    plan : Plan
        In force. Newton's method starts from its prices.
    estimates : Estimates
        Of n rows, [n, M].
    terms : QueryTerms
        Of the rows.
    limits : ndarray of float64, shape [K]
        From `routing.planning.counter_limits.program_limits`.
    mass : ndarray of float64, shape [n], optional
        Number of queries that each row stands for.
    shares : ndarray of float64, shape [K]
        Expected shares of values, to which the rows are weighted.
    """
    mass = np.ones(len(estimates)) if mass is None else mass
    counters = plan.counters
    columns = counters.columns(terms.values, len(estimates))
    mass = _weighted_to(counters, columns, mass, shares)
    open_models = plan.active & ~paused_columns(plan.paused, plan.models)
    program = RoutingProgram.of(counters, estimates, terms, limits, mass, open_models)
    if solver == "exact":
        prices = solve_program(program).prices
    else:
        prices = newton_program_prices(program, start=plan.prices if plan.version else None)
    return _unsampled_like_the_median(counters, columns, prices)


def _weighted_to(counters: Counters, columns: IntArray, mass: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the rows' masses with the expected share of each value; their sum stays."""
    total = mass.sum()
    for number, budget in enumerate(counters.budgets):
        if budget.group_by is None:
            continue
        column = columns[:, number]
        rows = column >= 0
        present = np.bincount(column[rows], mass[rows], len(counters))
        expected = np.where(present > 0, shares, 0.0)
        if expected.sum() > 0:
            factor = np.divide(
                expected / expected.sum() * present.sum(),
                present,
                out=np.ones_like(present),
                where=present > 0,
            )
            mass = mass.copy()
            mass[rows] *= factor[column[rows]]
    scaled: FloatArray = mass * (total / mass.sum())
    return scaled


def _unsampled_like_the_median(counters: Counters, columns: IntArray, prices: FloatArray) -> FloatArray:
    """Return the prices, with the median of a budget's sampled values for those without a row."""
    result = prices.copy()
    for number, budget in enumerate(counters.budgets):
        if budget.group_by is not None:
            value_columns = np.flatnonzero((counters.budget_of == number) & counters.grouped)
            sampled = np.isin(value_columns, columns[:, number])
            if sampled.any():
                result[value_columns[~sampled]] = np.median(prices[value_columns[sampled]])
    return result
