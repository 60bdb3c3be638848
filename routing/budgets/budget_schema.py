"""Budgets as plain data: the entries of `budgets` in a catalogue, and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from routing.budgets.budget import (
    MAX_VALUE_CHARACTERS,
    MAX_VALUES,
    SECONDS,
    UNITS,
    Budget,
    maximum,
)
from routing.budgets.schema import check_amount, check_text, check_whole, shown, unknown_keys

LIMITS = {f"limit_{unit}": unit for unit in UNITS}
"""Unit of each field that gives one limit."""

BUDGET_KEYS = (
    "name",
    *LIMITS,
    "models",
    "group_by",
    "limits",
    "default",
    "unit",
    "per",
    "burst",
    "required",
    "max_values",
)
MAX_NAME_CHARACTERS = 200


def budget_from_dict(data: object, where: str) -> tuple[Budget | None, list[str]]:
    """Return the budget of an entry, or None, and its problems.

    Parameters
    ----------
    data : mapping
        Fields of `Budget`. `limit_usd`, `limit_queries` or `limit_tokens` gives a limit with its unit.
    where : str
        Position of the entry for error messages, such as `budgets[0]`.

    Examples
    --------
    >>> budget, _ = budget_from_dict({"name": "rate", "limit_queries": 600, "per": "minute"}, "budgets[0]")
    >>> budget.unit, budget.rate_of()
    ('queries', 10.0)
    """
    if not isinstance(data, Mapping):
        return None, [f"{where}: {shown(data)} is not a mapping; give it a name and a limit"]
    problems = unknown_keys(data, BUDGET_KEYS, where)
    if bad := check_text(data.get("name"), f"{where}.name"):
        return None, problems + bad
    models = data.get("models", ["*"])
    models = [models] if isinstance(models, str) else models
    if not isinstance(models, list) or not models or not all(isinstance(one, str) for one in models):
        problems.append(f"{where}.models: {shown(models)} must be a list of names or globs")
        models = ["*"]
    limits = data.get("limits", {})
    if not isinstance(limits, Mapping) or not all(isinstance(value, str) for value in limits):
        problems.append(f"{where}.limits: {shown(limits)} must be a mapping of values (texts) to limits")
        limits = {}
    limit_keys = [key for key in LIMITS if data.get(key) is not None]
    if len(limit_keys) > 1:
        problems.append(f"{where}: {' and '.join(limit_keys)} are given; keep one and add another budget")
    unit = data.get("unit", LIMITS[limit_keys[0]] if limit_keys else "usd")
    if limit_keys and unit != LIMITS[limit_keys[0]]:
        problems.append(f"{where}.unit: {shown(unit)} contradicts {limit_keys[0]}; remove one")
    if unit not in UNITS:
        problems.append(f"{where}.unit: {shown(unit)} is none of {', '.join(UNITS)}")
        unit = "usd"
    budget = Budget(
        name=data["name"],
        unit=unit,
        limit=data[limit_keys[0]] if limit_keys else None,
        models=tuple(models),
        group_by=data.get("group_by"),
        limits=dict(limits),
        default=data.get("default"),
        per=data.get("per"),
        burst=data.get("burst"),
        required=data.get("required", False),
        max_values=data.get("max_values", MAX_VALUES),
    )
    return budget, problems + budget_problems(budget, where)


def budget_to_dict(budget: Budget) -> dict[str, Any]:
    """Return the plain data of a budget without defaults, for `budget_from_dict`."""
    data: dict[str, Any] = {"name": budget.name}
    if budget.limit is not None:
        data[f"limit_{budget.unit}"] = budget.limit
    elif budget.unit != "usd":
        data["unit"] = budget.unit
    if budget.models != ("*",):
        data["models"] = list(budget.models)
    if budget.limits:
        data["limits"] = dict(budget.limits)
    if budget.required:
        data["required"] = True
    if budget.max_values != MAX_VALUES:
        data["max_values"] = budget.max_values
    for name in ("group_by", "default", "per", "burst"):
        if (value := getattr(budget, name)) is not None:
            data[name] = value
    return data


def budget_problems(budget: Budget, where: str) -> list[str]:
    """Return what is wrong with a budget."""
    max_amount = maximum(budget.unit)
    problems = check_text(budget.name, f"{where}.name")
    if isinstance(budget.name, str) and ("=" in budget.name or len(budget.name) > MAX_NAME_CHARACTERS):
        problems.append(
            f"{where}.name: {shown(budget.name)} must have no '=' and at most "
            f"{MAX_NAME_CHARACTERS} characters"
        )
    problems += check_amount(budget.limit, f"{where}.limit_{budget.unit}", max_amount)
    problems += check_amount(budget.default, f"{where}.default", max_amount)
    problems += check_amount(budget.burst, f"{where}.burst", max_amount)
    problems += check_whole(budget.max_values, f"{where}.max_values", 1, 1_000_000)
    for value, limit in budget.limits.items():
        problems += check_amount(limit, f"{where}.limits.{value}", max_amount)
        if limit is None:
            problems.append(f"{where}.limits.{value}: has no limit; give a number")
        if len(value) > MAX_VALUE_CHARACTERS:
            problems.append(
                f"{where}.limits: {shown(value)} has {len(value)} characters; "
                f"a value has at most {MAX_VALUE_CHARACTERS}"
            )
    if not isinstance(budget.required, bool):
        problems.append(f"{where}.required: {shown(budget.required)} must be true or false")
    if budget.per is not None and budget.per not in SECONDS:
        problems.append(f"{where}.per: {shown(budget.per)} is none of {', '.join(SECONDS)}")
    if budget.burst is not None and budget.per is None:
        problems.append(f"{where}.burst: only a rate has one; add `per:` or remove it")
    return problems + _group_problems(budget, where)


def _group_problems(budget: Budget, where: str) -> list[str]:
    grouped = [name for name in ("limits", "default") if getattr(budget, name) not in (None, {})]
    if budget.group_by is None:
        if grouped:
            return [f"{where}.{grouped[0]}: only a budget with `group_by` has limits by value; add it"]
        if budget.limit is None:
            return [f"{where}: has no limit; add limit_usd, limit_queries or limit_tokens"]
        if budget.required is True:
            return [f"{where}.required: only a budget with `group_by` can require a value; add it"]
        return []
    valid = isinstance(budget.group_by, str) and budget.group_by.startswith(("metadata.", "header:"))
    if not valid or budget.group_by in ("metadata.", "header:"):
        return [
            f"{where}.group_by: {shown(budget.group_by)} must be metadata.NAME or header:NAME, "
            "the field of the query that has the value"
        ]
    if budget.limit is not None and grouped:
        return [f"{where}: give either limit_{budget.unit} for every value, or limits and default"]
    if budget.limit is None and not grouped:
        return [f"{where}: has no limit; add limits and default, or limit_usd for every value"]
    return []


def duplicate_names(budgets: Sequence[Budget]) -> list[str]:
    """Return a problem for each name that two budgets have."""
    names = [budget.name for budget in budgets]
    return [
        f"budgets: {name!r} is the name of two budgets; rename one (an LLM's budget_usd has the LLM's name)"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
