"""The linear program of routing with a limit per counter, and its exact solution, the reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# not in the first solve: importing it there held up a worker's heartbeats for seconds
from scipy.optimize import linprog
from scipy.sparse import csc_array

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import UNKNOWN, Counters
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates


@dataclass(frozen=True)
class RoutingProgram:
    """Maximise sum_ji m_j w_j d_ji x_ji, subject to one limit per counter and at most one LLM a query.

    Parameters
    ----------
    counters : Counters
        K counters of B budgets.
    quality : ndarray of float64, shape [n, M]
        Weighted quality w_j d_ji.
    cost : ndarray of float64, shape [n, M]
        USD.
    tokens : ndarray of float64, shape [n, M]
    allowed : ndarray of bool, shape [n, M]
        Eligible LLMs; x_ji = 0 for the others.
    columns : ndarray of int64, shape [n, B]
        The counter of each row in each budget, `UNKNOWN` if it draws on none.
    limits : ndarray of float64, shape [K]
        What all rows together may draw, in USD, queries or tokens. Infinite limits cost nothing. A counter
        with a limit of 0 serves no query, not even at no cost.
    mass : ndarray of float64, shape [n]
        m_j, the number of queries that each row stands for.
    """

    counters: Counters
    quality: FloatArray
    cost: FloatArray
    tokens: FloatArray
    allowed: NDArray[np.bool_]
    columns: IntArray
    limits: FloatArray
    mass: FloatArray

    @classmethod
    def of(
        cls,
        counters: Counters,
        estimates: Estimates,
        terms: QueryTerms,
        limits: FloatArray,
        mass: FloatArray | None = None,
        open_models: NDArray[np.bool_] | None = None,
    ) -> RoutingProgram:
        """Return the program of sampled queries.

        Parameters
        ----------
        counters : Counters
        estimates : Estimates
            [n, M].
        terms : QueryTerms
            Of the n queries. Values without a counter draw on no counter.
        limits : ndarray of float64, shape [K]
        mass : ndarray of float64, shape [n], optional
            One query each by default.
        open_models : ndarray of bool, shape [M], optional

        Raises
        ------
        ValueError
            Shapes do not match, or a value is not finite or negative.
        """
        n, models = estimates.quality.shape
        terms = terms.widened(models)
        allowed = np.ones((n, models), dtype=bool) if terms.eligible is None else terms.eligible.copy()
        if open_models is not None:
            allowed &= open_models
        weight = np.ones(n) if terms.weight is None else terms.weight
        tokens = np.zeros((n, models)) if terms.tokens is None else terms.tokens.astype(np.float64)
        program = cls(
            counters,
            np.maximum(estimates.quality * weight[:, None], 0.0),
            np.asarray(estimates.cost, np.float64),
            tokens,
            allowed,
            counters.columns(terms.values, n),
            np.asarray(limits, np.float64),
            np.ones(n) if mass is None else np.asarray(mass, np.float64),
        )
        program._check()
        return program

    def _check(self) -> None:
        n = len(self.quality)
        if self.limits.shape != (len(self.counters),) or self.mass.shape != (n,):
            raise ValueError(
                f"limits {self.limits.shape} and mass {self.mass.shape} must be "
                f"[{len(self.counters)}] and [{n}]"
            )
        for name in ("quality", "cost", "tokens", "mass"):
            values = getattr(self, name)
            if not np.isfinite(values).all() or (values < 0).any():
                raise ValueError(f"{name}: every value must be finite and not negative")
        if np.isnan(self.limits).any() or (self.limits < 0).any():
            raise ValueError("limits: every limit must be 0 or more")

    def draw(self, budget: int) -> FloatArray:
        """Return what each row draws on a budget if LLM i answers it, [n, M]; 0 where it draws nothing."""
        unit = self.counters.budgets[budget].unit
        amounts = {"usd": self.cost, "tokens": self.tokens}.get(unit)
        drawn = self.counters.covers[budget] & (self.columns[:, budget] != UNKNOWN)[:, None]
        return np.where(drawn, 1.0 if amounts is None else amounts, 0.0)

    @cached_property
    def payable(self) -> NDArray[np.bool_]:
        """LLMs that are eligible and draw on no counter with a limit of 0, [n, M]."""
        payable = self.allowed.copy()
        closed = self.limits <= 0
        for number in range(len(self.counters.budgets)):
            column = self.columns[:, number]
            spent = (column != UNKNOWN) & closed[column]
            payable &= ~(spent[:, None] & self.counters.covers[number])
        return payable

    @cached_property
    def binding(self) -> NDArray[np.bool_]:
        """Counters with a finite positive limit that some row can draw on, [K]."""
        drawn = np.zeros(len(self.counters), dtype=bool)
        for number in range(len(self.counters.budgets)):
            rows = (self.columns[:, number] != UNKNOWN) & (self.draw(number) * self.payable).any(1)
            drawn[self.columns[rows, number]] = True
        return drawn & np.isfinite(self.limits) & (self.limits > 0)

    def scores(self, prices: FloatArray) -> FloatArray:
        """Return w_j d_ji - sum_c y_c u_c(j, i), [n, M]; minus infinity for LLMs that are not payable."""
        score = self.quality.copy()
        for number in range(len(self.counters.budgets)):
            column = self.columns[:, number]
            price = np.where(column == UNKNOWN, 0.0, prices[column])
            score -= price[:, None] * self.draw(number)
        return np.where(self.payable, score, -np.inf)

    def dual(self, prices: FloatArray) -> float:
        """Return D(y), an upper bound of the quality of any routing within the limits (weak duality)."""
        gain = np.maximum(self.scores(prices).max(1, initial=0.0), 0.0)
        limits = np.where(self.binding, self.limits, 0.0)
        return float(limits @ prices + self.mass @ gain)

    def price_of_closed(self, prices: FloatArray) -> FloatArray:
        """Return the prices, and for counters without any limit the lowest at which no row draws on them."""
        result = prices.copy()
        for number in range(len(self.counters.budgets)):
            draw = self.draw(number)
            worth = np.divide(self.quality, draw, out=np.zeros_like(draw), where=(draw > 0) & self.allowed)
            rows = np.flatnonzero(self.columns[:, number] != UNKNOWN)
            closed = np.flatnonzero(self.limits <= 0)
            highest = np.zeros(len(prices))
            np.maximum.at(highest, self.columns[rows, number], worth[rows].max(1, initial=0.0))
            result[closed] = np.maximum(result[closed], highest[closed])
        return result


@dataclass(frozen=True)
class ProgramSolution:
    """An optimal solution of a program.

    Parameters
    ----------
    assignment : ndarray of float64, shape [n, M]
        x_ji in [0, 1].
    objective : float
    prices : ndarray of float64, shape [K]
        Dual values, not negative: quality per USD, per query or per token.
    """

    assignment: FloatArray
    objective: float
    prices: FloatArray


def solve_program(program: RoutingProgram) -> ProgramSolution:
    """Solve a program by HiGHS.

    Raises
    ------
    RuntimeError
        HiGHS did not reach an optimum.

    Examples
    --------
    Two LLMs share a total that pays for one of two queries.

    >>> from routing.budgets.budget import Budget
    >>> counters = Counters.of((Budget("total", limit=1.0),), ("a", "b"))
    >>> estimates = Estimates(np.array([[0.9, 0.2], [0.4, 0.3]]), np.ones((2, 2)))
    >>> solution = solve_program(RoutingProgram.of(counters, estimates, QueryTerms(), np.array([1.0])))
    >>> round(solution.objective, 6), bool(0.4 <= solution.prices[0] <= 0.9)
    (0.9, True)
    """
    n, models = program.quality.shape
    size = len(program.counters)
    assignment, prices = np.zeros((n, models)), np.zeros(size)
    j, i = np.nonzero(program.payable)
    if not len(j):
        return ProgramSolution(assignment, 0.0, program.price_of_closed(prices))
    rows, variables, values = [], [], []
    for number in range(len(program.counters.budgets)):
        column = program.columns[j, number]
        drawn = program.draw(number)[j, i] * program.mass[j]
        binding_pairs = np.flatnonzero((drawn > 0) & (column != UNKNOWN))
        binding_pairs = binding_pairs[program.binding[column[binding_pairs]]]
        rows.append(column[binding_pairs])
        variables.append(binding_pairs)
        values.append(drawn[binding_pairs])
    # Each constraint in units of its mean draw: prices of cheap and expensive LLMs differ by magnitudes.
    row, drawn = np.concatenate(rows), np.concatenate(values)
    count = np.maximum(np.bincount(row, minlength=size), 1)
    scale = np.bincount(row, drawn, size) / count
    scale[scale <= 0] = 1.0
    matrix = csc_array(
        (
            np.concatenate([drawn / scale[row], np.ones(len(j))]),
            (np.concatenate([row, size + j]), np.concatenate([*variables, np.arange(len(j))])),
        ),
        shape=(size + n, len(j)),
    )
    limits = np.where(program.binding, program.limits, 0.0) / scale
    result = linprog(
        -program.quality[j, i] * program.mass[j],
        A_ub=matrix,
        b_ub=np.concatenate([limits, np.ones(n)]),
        bounds=(0, None),
        method="highs",
    )
    if result.status != 0:
        raise RuntimeError(f"the linear program was not solved: {result.message}")
    assignment[j, i] = result.x
    duals = np.maximum(-result.ineqlin.marginals[:size], 0.0) / scale
    prices = np.where(program.binding, duals, 0.0)
    return ProgramSolution(assignment, float(-result.fun), program.price_of_closed(prices))
