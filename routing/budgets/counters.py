"""Counters: the columns of accounts and plans, one for each number that a budget limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from routing.arrays import IntArray
from routing.budgets.budget import EMPTY, OTHER, UNITS, Budget, Unit

CounterKey: TypeAlias = tuple[str, str | None]
"""Name of the budget and the value; the value is None for a budget without `group_by`."""

UNKNOWN = -1
"""Column of a value without a counter."""


@dataclass(frozen=True, eq=False)
class Counters:
    """The counters of a set of budgets, in columns that never move while a period lasts.

    Parameters
    ----------
    budgets : tuple of Budget, length B
    models : tuple of str, length M
    keys : tuple of CounterKey, length K
        In the order of the columns.

    Examples
    --------
    >>> team = Budget("team", group_by="metadata.team", limits={"ads": 1.0})
    >>> counters = Counters.of((Budget("total", limit=5), team), ("a", "b"))
    >>> counters.names
    ('total', 'team=ads', 'team=', 'team=other')
    >>> counters.columns({"metadata.team": ["ads", "new"]}, 2).tolist()
    [[0, 1], [0, -1]]
    """

    budgets: tuple[Budget, ...]
    models: tuple[str, ...]
    keys: tuple[CounterKey, ...]

    @classmethod
    def of(cls, budgets: Sequence[Budget], models: Sequence[str]) -> Counters:
        """Return the counters of budgets and of the values that they list, and of `EMPTY` and `OTHER`."""
        fixed: list[CounterKey] = [(budget.name, None) for budget in budgets if budget.group_by is None]
        values: list[CounterKey] = []
        for budget in budgets:
            if budget.group_by is not None:
                listed = dict.fromkeys((*budget.limits, EMPTY, OTHER))
                values += [(budget.name, value) for value in listed]
        return cls(tuple(budgets), tuple(models), (*fixed, *values))

    @classmethod
    def per_llm(cls, models: Sequence[str]) -> Counters:
        """Return one counter for each LLM, in their order. Plans know the limits."""
        return cls(
            tuple(Budget(name, models=(name,)) for name in models),
            tuple(models),
            tuple((name, None) for name in models),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counters):
            return NotImplemented
        return self is other or (
            self.keys == other.keys and self.budgets == other.budgets and self.models == other.models
        )

    __hash__ = None  # type: ignore[assignment]

    # ---- columns -----------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names for people: the budget, and the value after "="."""
        return tuple(name if value is None else f"{name}={value}" for name, value in self.keys)

    @cached_property
    def column_of(self) -> Mapping[CounterKey, int]:
        """Column of each key."""
        return {key: column for column, key in enumerate(self.keys)}

    @cached_property
    def budget_of(self) -> NDArray[np.intp]:
        """Position of each column's budget, [K]."""
        position = {budget.name: number for number, budget in enumerate(self.budgets)}
        return np.array([position[name] for name, _ in self.keys], dtype=np.intp)

    @cached_property
    def covers(self) -> NDArray[np.bool_]:
        """LLMs that draw on each budget, [B, M]."""
        rows = [budget.covers(self.models) for budget in self.budgets]
        return np.array(rows, dtype=bool).reshape(len(self.budgets), len(self.models))

    @cached_property
    def grouped(self) -> NDArray[np.bool_]:
        """Columns of budgets with `group_by`, [K]."""
        return np.array([value is not None for _, value in self.keys], dtype=bool)

    @cached_property
    def is_per_llm(self) -> bool:
        """True for one US dollar budget per LLM, in the order of the LLMs, and no other."""
        return [key for key, _ in self.keys] == list(self.models) and all(
            budget.models == (budget.name,)
            and budget.unit == "usd"
            and budget.group_by is None
            and budget.per is None
            for budget in self.budgets
        )

    @cached_property
    def fixed_columns(self) -> NDArray[np.intp]:
        """Column of each budget's counter, [B]; `UNKNOWN` for a budget with `group_by`."""
        return np.array([self.column_of.get((one.name, None), UNKNOWN) for one in self.budgets], np.intp)

    @cached_property
    def grouped_budgets(self) -> tuple[int, ...]:
        """Positions of the budgets with `group_by`."""
        return tuple(number for number, one in enumerate(self.budgets) if one.group_by is not None)

    @cached_property
    def budgets_by_unit(self) -> Mapping[Unit, NDArray[np.intp]]:
        """Positions of the budgets of each unit."""
        return {
            unit: np.array([n for n, one in enumerate(self.budgets) if one.unit == unit], dtype=np.intp)
            for unit in UNITS
        }

    @cached_property
    def grouped_by_unit(self) -> Mapping[Unit, tuple[int, ...]]:
        """Positions of the budgets of each unit with `group_by`."""
        return {
            unit: tuple(number for number in self.grouped_budgets if self.budgets[number].unit == unit)
            for unit in UNITS
        }

    @cached_property
    def fixed_by_unit(self) -> Mapping[Unit, tuple[NDArray[np.intp], NDArray[np.bool_]]]:
        """Columns of a unit's budgets without `group_by`, [F], and the LLMs that they cover, [F, M]."""
        fixed = self.fixed_columns >= 0
        numbers_by_unit = {
            unit: [n for n in numbers if fixed[n]] for unit, numbers in self.budgets_by_unit.items()
        }
        return {unit: (self.fixed_columns[rows], self.covers[rows]) for unit, rows in numbers_by_unit.items()}

    @cached_property
    def _values(self) -> tuple[Mapping[str, int], ...]:
        """Column by value, for each budget with `group_by`."""
        columns: tuple[dict[str, int], ...] = tuple({} for _ in self.budgets)
        for column in np.flatnonzero(self.grouped).tolist():
            columns[self.budget_of[column]][self.keys[column][1] or EMPTY] = column
        return columns

    @cached_property
    def known_values(self) -> tuple[int, ...]:
        """Number of values with a counter, for each budget."""
        counts = np.bincount(self.budget_of[self.grouped], minlength=len(self.budgets))
        return tuple(int(count) for count in counts)

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the query that budgets are grouped by, without duplicates."""
        return tuple(dict.fromkeys(one.group_by for one in self.budgets if one.group_by is not None))

    def columns(self, values: Mapping[str, Sequence[str]], queries: int) -> IntArray:
        """Return the column of each query's counter in each budget, [n, B]; `UNKNOWN` for unknown values.

        Parameters
        ----------
        values : mapping of str to sequence of str, length n
            Values by the field of `group_by`. A query has `EMPTY` where the field is missing.
        queries : int
            n.
        """
        columns = np.empty((queries, len(self.budgets)), dtype=np.int64)
        columns[:] = self.fixed_columns
        for number in self.grouped_budgets:
            query_values = values.get(self.budgets[number].group_by or EMPTY) or repeat(EMPTY, queries)
            value_columns = map(self._values[number].get, query_values, repeat(UNKNOWN))
            columns[:, number] = np.fromiter(value_columns, np.int64, queries)
        return columns

    def resolved(self, values: Mapping[str, Sequence[str]], queries: int) -> tuple[Counters, IntArray]:
        """Return the counters with all unknown values, and the columns of the queries, [n, B].

        Values beyond a budget's `max_values` share the counter `OTHER`.

        Parameters
        ----------
        values, queries
            As in `columns`.
        """
        columns = self.columns(values, queries)
        if not (columns < 0).any():
            return self, columns
        counters = self.with_keys(self._new_keys(values, columns))
        columns = counters.columns(values, queries)
        for number, budget in enumerate(counters.budgets):
            if budget.group_by is not None:
                beyond = columns[:, number] < 0
                columns[beyond, number] = counters.column_of[(budget.name, OTHER)]
        return counters, columns

    def _new_keys(self, values: Mapping[str, Sequence[str]], columns: IntArray) -> list[CounterKey]:
        new: list[CounterKey] = []
        for number, budget in enumerate(self.budgets):
            if budget.group_by is None:
                continue
            query_values = values.get(budget.group_by, ())
            unknown = dict.fromkeys(query_values[j] for j in np.flatnonzero(columns[:, number] < 0).tolist())
            room = max(0, budget.max_values - self.known_values[number])
            new += [(budget.name, value) for value in list(unknown)[:room]]
        return new

    # ---- changes -----------------------------------------------------------------------------------------

    def with_keys(self, keys: Iterable[CounterKey]) -> Counters:
        """Return the counters with more columns; keys of unknown budgets are ignored."""
        valid = {budget.name for budget in self.budgets}
        new = dict.fromkeys(key for key in keys if key not in self.column_of and key[0] in valid)
        return Counters(self.budgets, self.models, (*self.keys, *new)) if new else self

    def aligned(self, first: Counters) -> tuple[Counters, IntArray]:
        """Return these counters behind others, and the columns there, negative for unknown budgets, [K].

        The last answer is kept: the accounts of a lane have the same counters at every look.
        """
        last: tuple[Counters, Counters, IntArray] | None = self.__dict__.get("_aligned")
        if last is None or last[0] is not first:
            merged = first.with_keys(self.keys)
            merged_columns = map(merged.column_of.get, self.keys, repeat(UNKNOWN))
            last = (first, merged, np.fromiter(merged_columns, np.int64, len(self.keys)))
            self.__dict__["_aligned"] = last
        return last[1], last[2]

    def changed(self, budgets: Sequence[Budget], models: Sequence[str]) -> Counters:
        """Return the counters of other budgets and LLMs; columns of missing budgets are kept at their place.

        A missing budget covers no LLM any more: nothing draws on it, and it limits nothing.

        Parameters
        ----------
        budgets : sequence of Budget
            A budget replaces the one with its name.
        models : sequence of str
            All LLMs, old ones first.
        """
        new_budgets = {budget.name: budget for budget in budgets}
        old_budgets = [new_budgets.get(budget.name, replace(budget, models=())) for budget in self.budgets]
        old_names = {budget.name for budget in self.budgets}
        all_budgets = (*old_budgets, *(budget for budget in budgets if budget.name not in old_names))
        fresh = Counters.of(all_budgets, models)
        return Counters(all_budgets, tuple(models), tuple(dict.fromkeys((*self.keys, *fresh.keys))))

    def limits(self) -> IntArray:
        """Return the limit of each counter when the first period begins, in its smallest unit, [K]."""
        pairs = zip(self.budget_of, self.keys, strict=True)
        return np.array([self.budgets[b].initial_limit_of(value) for b, (_, value) in pairs], np.int64)

    def rates(self) -> NDArray[np.float64]:
        """Return the growth of each limit in smallest units a second, [K]; 0 for counters without a rate."""
        if not any(budget.is_rate for budget in self.budgets):
            return np.zeros(len(self.keys))
        pairs = zip(self.budget_of, self.keys, strict=True)
        return np.array([self.budgets[b].rate_of(value) for b, (_, value) in pairs], np.float64)
