"""Amounts by which an operator raises the limit of a counter for the rest of a period."""

from __future__ import annotations

import math

from routing.budgets.budget import maximum, unit_name
from routing.budgets.money import MAX_USD, to_pico
from routing.policy.plan import Plan

SHOWN_COUNTERS = 10
"""Names that an error message lists."""


def top_up_amount(plan: Plan, name: str, amount: float) -> int:
    """Return an amount in the smallest unit of a counter.

    Parameters
    ----------
    plan : Plan
        In force.
    name : str
        Name of the counter: a budget, `BUDGET=VALUE`, or an LLM with a budget of its own.
    amount : float
        In US dollars, queries or tokens.

    Raises
    ------
    ValueError
        The plan has no such counter or it cannot be topped up, or the amount is not valid.
    """
    column = _column(plan, name)
    budget = plan.counters.budgets[plan.counters.budget_of[column]]
    if not math.isfinite(amount) or amount <= 0:
        raise ValueError(f"amount: {amount:g} must be above 0; `plan apply` lowers a limit")
    if budget.unit != "usd" and amount != int(amount):
        raise ValueError(f"amount: {amount:g} must be a whole number, because {name} counts {budget.unit}")
    if amount <= MAX_USD or budget.unit != "usd":
        added = int(to_pico(amount)) if budget.unit == "usd" else int(amount)
        max_limit = int(to_pico(MAX_USD)) if budget.unit == "usd" else int(maximum(budget.unit))
        if int(plan.budgets[column]) + added <= max_limit:
            return added
    limit = unit_name(budget.unit, int(plan.budgets[column]))
    raise ValueError(
        f"amount: {name} would have more than {maximum(budget.unit):.0f} {_unit(budget.unit)}; "
        f"its limit is {limit}"
    )


def top_up_line(plan: Plan, name: str, added: int, total: int) -> str:
    """Return one line about a top-up that was published.

    Parameters
    ----------
    plan : Plan
        In force before.
    name : str
    added, total : int
        This top-up, and all of the period, in the counter's smallest unit.
    """
    column = plan.counters.names.index(name)
    unit = plan.counters.budgets[plan.counters.budget_of[column]].unit
    limit = int(plan.catalogue_limits[column]) + total
    return (
        f"{name}: {unit_name(unit, added)} more in period {plan.period}, "
        f"a limit of {unit_name(unit, limit)} until the period ends"
    )


def _column(plan: Plan, name: str) -> int:
    names, counters = plan.counters.names, plan.counters
    is_open = {one for one, is_open in zip(names, plan.open, strict=True) if is_open}
    if name not in is_open:
        raise ValueError(_unknown(plan, name, is_open))
    column = names.index(name)
    if counters.budgets[counters.budget_of[column]].is_rate:
        raise ValueError(f"budget: {name} is a rate, which grows by itself; change it with `plan apply`")
    return column


def _unknown(plan: Plan, name: str, is_open: set[str]) -> str:
    budget_name, _, value = name.partition("=")
    grouped = {budget.name: budget for budget in plan.counters.budgets if budget.group_by is not None}
    if (budget := grouped.get(budget_name)) is not None and budget.models:
        if "=" not in name:
            return f"budget: {name} has a limit for each value; name one, such as {name}=VALUE"
        return (
            f"value: {value!r} has had no query on the budget {budget_name} in this period, and "
            "the catalogue does not list it; set its limit with `plan apply`"
        )
    shown = [one for one in plan.counters.names if one in is_open]
    more = f" and {len(shown) - SHOWN_COUNTERS} more" if len(shown) > SHOWN_COUNTERS else ""
    return f"budget: {name!r} is not in the plan, which has {', '.join(shown[:SHOWN_COUNTERS])}{more}"


def _unit(unit: str) -> str:
    return "USD" if unit == "usd" else unit
