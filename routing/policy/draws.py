"""Draws of queries on counters, u_c(j, i): prices of them, payment for them, and reasons for refusals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.budget import UNITS, Unit
from routing.budgets.counters import Counters
from routing.budgets.terms import QueryTerms
from routing.policy.decision import (
    BUDGET_EXHAUSTED,
    NO_ELIGIBLE_LLM,
    NOT_WORTH_IT,
    SERVED,
    TOLERANCE,
    UNSERVED,
)

UNLIMITED = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Draws:
    """Draws of n queries on K counters, one counter in each of B budgets.

    Parameters
    ----------
    counters : Counters
    columns : ndarray of int64, shape [n, B]
        The counter of each query in each budget.
    charge : ndarray of int64, shape [n, M]
        Picodollars to reserve.
    tokens : ndarray of int64, shape [n, M]
    """

    counters: Counters
    columns: IntArray
    charge: IntArray
    tokens: IntArray

    @classmethod
    def of(cls, counters: Counters, terms: QueryTerms, charge: IntArray) -> Draws:
        """Return the draws of queries; counters of new values are added to `counters`."""
        counters, columns = counters.resolved(terms.values, len(charge))
        tokens = np.zeros_like(charge) if terms.tokens is None else terms.tokens
        return cls(counters, columns, charge, tokens)

    def amounts(self, budget: int, part: slice = slice(None)) -> IntArray:
        """Return the draws on a budget in its smallest unit if LLM i answers query j, [n, M].

        LLMs that the budget does not cover have a value, too.
        """
        unit = self.counters.budgets[budget].unit
        if unit == "usd":
            return self.charge[part]
        return self.tokens[part] if unit == "tokens" else np.ones_like(self.charge[part])

    def amounts_of(self, model: IntArray, part: slice = slice(None)) -> IntArray:
        """Return the draws on all budgets in their smallest units if these LLMs answer, [n, B].

        Parameters
        ----------
        model : ndarray of int64, shape [n]
            One LLM for each query. Budgets that do not cover it have a value, too.
        part : slice
            The n queries.
        """
        rows, units = np.arange(len(model)), self.counters.budgets_by_unit
        amounts = np.ones((len(model), len(self.counters.budgets)), dtype=np.int64)
        if len(budgets := units["usd"]):
            amounts[:, budgets] = self.charge[part][rows, model, None]
        if len(budgets := units["tokens"]):
            amounts[:, budgets] = self.tokens[part][rows, model, None]
        return amounts

    def of_choice(self, choice: IntArray) -> tuple[IntArray, IntArray]:
        """Return the counters that choices draw on, negative for none, and the amounts, both [n, B]."""
        served = choice >= 0
        model = np.where(served, choice, 0)
        covered = self.counters.covers[:, model].T & served[:, None]
        return np.where(covered, self.columns, -1), np.where(covered, self.amounts_of(model), 0)

    def costs(self, prices: FloatArray, cost: FloatArray) -> FloatArray:
        """Return sum_c y_c u_c(j, i), what each LLM's answer is priced at, in quality, [n, M].

        Parameters
        ----------
        prices : ndarray of float64, shape [K]
            Quality per USD, per query or per token.
        cost : ndarray of float64, shape [n, M]
            Estimated cost in USD.
        """
        total: FloatArray = self._price_per_llm("usd", prices) * cost
        units = self.counters.budgets_by_unit
        if len(units["queries"]):
            total += self._price_per_llm("queries", prices)
        if len(units["tokens"]):
            total += self._price_per_llm("tokens", prices) * self.tokens
        return total

    def _price_per_llm(self, unit: Unit, prices: FloatArray) -> FloatArray:
        """Return the sum of the prices of a unit's counters that each LLM draws on, [M] or [n, M]."""
        fixed, covers = self.counters.fixed_by_unit[unit]
        total: FloatArray = np.where(covers, prices[fixed, None], 0.0).sum(axis=0)
        for number in self.counters.grouped_by_unit[unit]:
            price = prices[self.columns[:, number], None]
            total = total + np.where(self.counters.covers[number], price, 0.0)
        return total

    def reasons(
        self, choice: IntArray, score: FloatArray, available: IntArray, limits: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Return why each query is not served, and the counter that could not pay, negative for none, [n].

        Parameters
        ----------
        choice : ndarray of int64, shape [n]
        score : ndarray of float64, shape [n, M]
            Minus infinity for LLMs that may not answer.
        available : ndarray of int64, shape [K]
            Left after the batch.
        limits : ndarray of int64, shape [K]
        """
        why = np.full(len(choice), SERVED, dtype=np.int64)
        counter = np.full(len(choice), -1, dtype=np.int64)
        rows = np.flatnonzero(choice == UNSERVED)
        if not len(rows):
            return why, counter
        best = score[rows].argmax(1)
        top = score[rows, best]
        why[rows] = np.where(np.isneginf(top), NO_ELIGIBLE_LLM, NOT_WORTH_IT)
        for number in range(len(self.counters.budgets)):
            column = self.columns[rows, number]
            short = self.amounts(number)[rows, best] > available[column]
            # A counter without any limit prices all LLMs out of reach; the reason is still the budget.
            spent = (top > TOLERANCE) & short | (limits[column] <= 0)
            spent &= self.counters.covers[number, best] & ~np.isneginf(top) & (counter[rows] < 0)
            counter[rows] = np.where(spent, column, counter[rows])
        why[rows] = np.where((counter[rows] >= 0) | (top > TOLERANCE), BUDGET_EXHAUSTED, why[rows])
        return why, counter


class CounterPurse:
    """Payment from the counters of several budgets: all that a query draws on, or none.

    Parameters
    ----------
    draws : Draws
    available : ndarray of int64, shape [K]
        Left of each counter in its smallest unit; not changed.
    pooled : ndarray of bool, shape [K]
        Counters of which the overflow lane may have a part. A query waits for it only if it does.
    """

    def __init__(self, draws: Draws, available: IntArray, pooled: NDArray[np.bool_]) -> None:
        self._pooled = pooled
        self._draws, self.remaining = draws, np.array(available, dtype=np.int64)
        self._part, self._charged_rows, self._pick = slice(0), np.zeros(0, np.intp), np.zeros(0, np.int64)
        self._left = self._before = np.zeros((0, len(draws.counters.budgets)), dtype=np.int64)
        self._plenty = False

    def payable(self, part: slice) -> NDArray[np.bool_]:
        """See `routing.policy.decision.Purse`."""
        draws = self._draws
        self._left = self.remaining[draws.columns[part]]
        if self._has_plenty(part):
            return np.ones(draws.charge[part].shape, dtype=bool)
        return self._able(part, np.ones(len(self.remaining), dtype=bool))

    def deferrable(self, part: slice) -> NDArray[np.bool_] | None:
        """See `routing.policy.decision.Purse`."""
        return None if self._plenty else self._able(part, ~self._pooled)

    def _able(self, part: slice, limiting: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the LLMs that the limiting counters can pay, [n, M]."""
        draws, counters = self._draws, self._draws.counters
        able = np.ones(draws.charge[part].shape, dtype=bool)
        left = np.where(limiting, self.remaining, UNLIMITED)
        for unit in UNITS:
            fixed, covers = counters.fixed_by_unit[unit]
            if not len(fixed):
                continue
            room = np.where(covers, left[fixed, None], UNLIMITED).min(axis=0)
            able &= draws.amounts(counters.budgets_by_unit[unit][0], part) <= room
        for number in counters.grouped_budgets:
            counter_left = left[draws.columns[part, number], None]
            able &= (draws.amounts(number, part) <= counter_left) | ~counters.covers[number]
        return able

    def _has_plenty(self, part: slice) -> bool:
        """Return whether all counters can pay for the whole part, whichever LLMs answer."""
        draws, units = self._draws, self._draws.counters.budgets_by_unit
        needed = np.full(self._left.shape[1], float(len(self._left)))
        # Sums of charges may exceed int64. The margin is more than the rounding of floats.
        drawn: tuple[tuple[Unit, IntArray], ...] = (("usd", draws.charge), ("tokens", draws.tokens))
        for unit, amounts in drawn:
            if len(units[unit]):
                needed[units[unit]] = amounts[part].max(axis=1, initial=0).sum(dtype=np.float64) * (1 + 1e-9)
        self._plenty = bool((self._left.min(axis=0, initial=UNLIMITED) >= needed).all())
        return self._plenty

    def spend(self, part: slice, rows: IntArray, pick: IntArray) -> None:
        """See `routing.policy.decision.Purse`."""
        self._part, self._charged_rows, self._pick = part, rows, pick
        if self._plenty:
            return
        drawn, draws = self._prepared_draws(), self._draws
        self._before = np.cumsum(drawn, axis=0) - drawn
        for number in draws.counters.grouped_budgets:
            column_draws = drawn[:, number]
            self._before[:, number] = _running_sum(draws.columns[part, number], column_draws) - column_draws

    def _prepared_draws(self) -> IntArray:
        """Return what the prepared rows draw on each budget, [n, B]."""
        draws, drawn = self._draws, np.zeros(self._left.shape, dtype=np.int64)
        covered = draws.counters.covers[:, self._pick[self._charged_rows]].T
        amounts = draws.amounts_of(self._pick, self._part)[self._charged_rows]
        drawn[self._charged_rows] = np.where(covered, amounts, 0)
        return drawn

    def still_payable(self, model: IntArray) -> NDArray[np.bool_]:
        """See `routing.policy.decision.Purse`."""
        if self._plenty:
            return np.ones(len(model), dtype=bool)
        return np.asarray((~self._short(model)).all(axis=1))

    def still_deferrable(self, model: IntArray) -> NDArray[np.bool_]:
        """See `routing.policy.decision.Purse`."""
        if self._plenty:
            return np.ones(len(model), dtype=bool)
        pooled = self._pooled[self._draws.columns[self._part]]
        return np.asarray((~self._short(model) | pooled).all(axis=1))

    def _short(self, model: IntArray) -> NDArray[np.bool_]:
        """Return the budgets that cannot pay each row's LLM after the rows before it, [n, B]."""
        needed = self._draws.amounts_of(model, self._part) + self._before
        short: NDArray[np.bool_] = (needed > self._left) & self._draws.counters.covers[:, model].T
        return short

    def charge(self, rows: int) -> None:
        """See `routing.policy.decision.Purse`."""
        columns = self._draws.columns[self._part][:rows]
        np.subtract.at(self.remaining, columns.ravel(), self._prepared_draws()[:rows].ravel())


def _running_sum(column: IntArray, amounts: IntArray) -> IntArray:
    """Return the sum of the amounts of the same column up to each row, [n].

    Examples
    --------
    >>> _running_sum(np.array([0, 1, 0]), np.array([5, 7, 1])).tolist()
    [5, 7, 6]
    """
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    total = np.cumsum(amounts[order])
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else order
    start = np.repeat(total[first] - amounts[order][first], np.diff(np.r_[first, len(order)]))
    result = np.empty_like(amounts)
    result[order] = total - start
    return result
