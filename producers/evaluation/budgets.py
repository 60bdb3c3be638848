"""The budgets that a replay is accounted by: those in US dollars, whatever they cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routing.arrays import FloatArray
from routing.budgets.budget import Budget
from routing.budgets.catalogue import Catalogue
from routing.budgets.counters import Counters
from routing.budgets.money import to_usd
from routing.budgets.splits import SHARED
from routing.history.history import History


def budgets_of(catalogue: Catalogue, history: History) -> Counters:
    """Return the counters of a catalogue's budgets in US dollars, without rates.

    Limits in queries or tokens and rates bind the router only.

    Parameters
    ----------
    catalogue : Catalogue
    history : History
        With the same LLMs; its means divide a total with `split`.

    Raises
    ------
    ValueError
        No budget is left.
    """
    budgets = catalogue.resolve_budgets(history.quality.mean(0), history.cost.mean(0))
    usd_budgets = [budget for budget in budgets if budget.unit == "usd" and not budget.is_rate]
    if not usd_budgets:
        raise ValueError("budgets: none is in US dollars; a replay compares results within such a budget")
    return Counters.of(usd_budgets, catalogue.names)


def over_periods(counters: Counters, periods: int) -> Counters:
    """Return the counters with the limits of several periods together."""
    return replace(counters, budgets=tuple(_times(budget, periods) for budget in counters.budgets))


def _times(budget: Budget, periods: int) -> Budget:
    return replace(
        budget,
        limit=None if budget.limit is None else budget.limit * periods,
        limits={value: limit * periods for value, limit in budget.limits.items()},
        default=None if budget.default is None else budget.default * periods,
    )


def money_per_llm(counters: Counters) -> FloatArray:
    """Return the most that each LLM can spend alone, in USD, [M]: the least of the budgets that cover it.

    Examples
    --------
    >>> total, small = Budget("total", limit=3.0), Budget("small", limit=1.0, models=("a",))
    >>> money_per_llm(Counters.of((total, small), ("a", "b"))).tolist()
    [1.0, 3.0]
    """
    limits = np.zeros(len(counters.budgets))
    np.add.at(limits, counters.budget_of, to_usd(counters.limits()))
    money: FloatArray = np.where(counters.covers, limits[:, None], np.inf).min(0)
    return money


def total_money(counters: Counters) -> float:
    """Return the most that all LLMs can spend together by the budgets' limits, in USD.

    Examples
    --------
    >>> total, small = Budget("total", limit=3.0), Budget("small", limit=1.0, models=("a",))
    >>> total_money(Counters.of((total, small), ("a", "b"))), total_money(Counters.of((small,), ("a",)))
    (3.0, 1.0)
    """
    limits = np.zeros(len(counters.budgets))
    np.add.at(limits, counters.budget_of, to_usd(counters.limits()))
    of_all = limits[counters.covers.all(1)]
    return float(of_all.min() if len(of_all) else limits.sum())


def budget_form(counters: Counters, split: str | None) -> str:
    """Return a short description of the budgets.

    Parameters
    ----------
    counters : Counters
    split : str or None
        The rule by which the total was divided, if it is known.

    Examples
    --------
    >>> budget_form(Counters.of((Budget("total", limit=3.0),), ("a", "b")), "shared")
    'one total that all LLMs share (--split shared)'
    """
    if counters.is_per_llm:
        rule = "" if split in (None, SHARED) else f" (--split {split})"
        return f"a budget for each LLM{rule}"
    (first, *more) = counters.budgets
    if not more and first.group_by is None and counters.covers[0].all():
        return f"one total that all LLMs share{' (--split shared)' if split == SHARED else ''}"
    return f"the catalogue's: {', '.join(budget.name for budget in counters.budgets)}"
