"""Budgets of the current period over all lanes: every scope, and a bounded number of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routing.arrays import IntArray
from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.budgets.money import to_usd
from routing.policy.account import Account
from routing.policy.plan import Plan

NAMED_VALUES = 50
"""Values of a budget with figures of their own: those that the catalogue lists, in its order."""

TOP_VALUES = 20
"""Values of a budget that a summary lists by their share, largest first."""


@dataclass(frozen=True)
class CounterSummary:
    """One counter in the current period; amounts are in the budget's unit.

    Parameters
    ----------
    value : str or None
        None for a budget without `group_by`.
    limit, spent, reserved, left : float
        `left` is the limit less what is spent and reserved.
    share : float or None
        Spent and reserved over the limit; None for a rate or without a limit.
    price : float
        Quality per unit.
    served : int
        Queries.
    """

    value: str | None
    limit: float
    spent: float
    reserved: float
    left: float
    share: float | None
    price: float
    served: int


@dataclass(frozen=True)
class BudgetSummary:
    """One budget in the current period.

    Parameters
    ----------
    name, unit : str
    group_by, per : str or None
        As in the catalogue.
    models : tuple of str
        LLMs that draw on it.
    values : int
        Number of values; 0 without `group_by`.
    counters : tuple of CounterSummary
        The budget's counter, or the values that the catalogue lists, at most `NAMED_VALUES`.
    top : tuple of CounterSummary
        The values of the largest share, at most `TOP_VALUES`.
    others : CounterSummary or None
        Sum over the values that are not in `counters`; its share is the largest of theirs.
    """

    name: str
    unit: str
    group_by: str | None
    per: str | None
    models: tuple[str, ...]
    values: int
    counters: tuple[CounterSummary, ...]
    top: tuple[CounterSummary, ...] = ()
    others: CounterSummary | None = None


class BudgetFigures:
    """Limits and draws of every counter, as arrays.

    Parameters
    ----------
    plan : Plan
    accounts : sequence of Account
        Of the plan's period.
    """

    def __init__(self, plan: Plan, accounts: Sequence[Account]) -> None:
        self._plan, counters = plan, plan.counters
        self.counters = counters
        size, models = len(counters), len(plan.models)
        charged = np.zeros(size, dtype=np.int64)
        use = np.zeros((size, models, 3), dtype=np.int64)
        by_llm = np.zeros((models, 3), dtype=np.int64)
        for account in accounts:
            wide = account.widened(models)
            by_llm += np.stack([wide.served, wide.reserved, wide.settled], 1)
            if wide.counters is None:
                charged[: len(wide.charged)] += wide.charged if plan.per_llm else 0
                continue
            aligned = wide.aligned(counters)
            charged += aligned.charged[:size]
            use += aligned.use[:size]
        fixed = ~counters.grouped
        covers = counters.covers[counters.budget_of]
        use[fixed] = np.where(covers[fixed][:, :, None], by_llm, 0)
        is_usd = np.array([counters.budgets[b].unit == "usd" for b in counters.budget_of], dtype=bool)
        self._charged = charged
        self._spent = np.where(is_usd, np.minimum(use[:, :, 2].sum(1), charged), charged)
        self._served = use[:, :, 0].sum(1)
        self._limits = plan.budgets_in_force(charged)
        self._scale = np.where(is_usd, float(to_usd(1)), 1.0)
        rated = (counters.rates() > 0) | (self._limits <= 0)
        self._shares = np.where(rated, np.nan, charged / np.maximum(self._limits, 1))

    def summaries(self) -> tuple[BudgetSummary, ...]:
        """Return all open budgets, in the order of the catalogue."""
        counters, plan = self.counters, self._plan
        return tuple(
            self._summary(number, budget)
            for number, budget in enumerate(counters.budgets)
            if plan.open[np.flatnonzero(counters.budget_of == number)].any()
        )

    def search(self, budget: str, text: str, limit: int = TOP_VALUES) -> list[CounterSummary]:
        """Return the values of a budget that contain a text, those of the largest share first."""
        columns = [
            column
            for column, (name, value) in enumerate(self.counters.keys)
            if name == budget and value is not None and text.casefold() in value.casefold()
        ]
        return [self.counter(column) for column in self._by_share(columns)[:limit]]

    def counter(self, column: int) -> CounterSummary:
        """Return one counter."""
        return self._sum(self.counters.keys[column][1], [column])

    def _summary(self, number: int, budget: Budget) -> BudgetSummary:
        counters: Counters = self.counters
        columns = np.flatnonzero(counters.budget_of == number).tolist()
        models = tuple(np.array(counters.models)[counters.covers[number]].tolist())
        form = (budget.name, budget.unit, budget.group_by, budget.per, models)
        if budget.group_by is None:
            return BudgetSummary(*form, 0, tuple(self.counter(column) for column in columns))
        named = [c for c in columns if counters.keys[c][1] in budget.limits][:NAMED_VALUES]
        others = sorted(set(columns) - set(named))
        return BudgetSummary(
            *form,
            len(columns),
            tuple(self.counter(column) for column in named),
            tuple(self.counter(column) for column in self._by_share(columns)[:TOP_VALUES]),
            self._sum(None, others) if others else None,
        )

    def _by_share(self, columns: list[int]) -> list[int]:
        shares = np.nan_to_num(self._shares, nan=-1.0)
        return sorted(columns, key=lambda column: -shares[column])

    def _sum(self, value: str | None, columns: list[int]) -> CounterSummary:
        scale = float(self._scale[columns[0]])

        def total(amounts: IntArray) -> float:
            return float(amounts[columns].sum()) * scale

        limit, charged, spent = total(self._limits), total(self._charged), total(self._spent)
        shares = self._shares[columns]
        known = shares[~np.isnan(shares)]
        return CounterSummary(
            value,
            limit,
            spent,
            charged - spent,
            limit - charged,
            float(known.max()) if len(known) else None,
            float(self._plan.prices[columns].max()),
            int(self._served[columns].sum()),
        )
