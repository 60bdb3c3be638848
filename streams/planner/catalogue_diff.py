"""Differences between catalogues, for people, and the catalogue in force before the first is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from routing.budgets.budget_schema import budget_to_dict
from routing.budgets.catalogue import FREE_BUDGET, TOTAL, Catalogue
from routing.budgets.model import Model
from routing.budgets.money import to_pico, to_usd
from routing.budgets.period import CalendarPeriod, QueryPeriod, TimePeriod
from routing.budgets.period_schema import period_to_dict
from routing.budgets.schema import CatalogueError
from routing.policy.list_prices import PriceChange, cost_factors
from routing.policy.plan import Plan


@dataclass(frozen=True)
class Change:
    """One difference between two catalogues.

    Parameters
    ----------
    model : str
        Name of the LLM, or "all" for the whole catalogue.
    change : str
        "added", "removed", or the name of the field.
    before, after : object
        Values, or None.
    """

    model: str
    change: str
    before: object = None
    after: object = None

    def __str__(self) -> str:
        if self.change in ("added", "removed"):
            return f"{self.model}: {self.change}"
        return f"{self.model}: {self.change} {_shown(self.before)} -> {_shown(self.after)}"


COMPARED_FIELDS = (
    "budget_usd",
    "input_price",
    "output_price",
    "cached_input_price",
    "request_fee",
    "batch_discount",
    "context_window",
    "capabilities",
)


def differences(before: Catalogue, after: Catalogue) -> list[Change]:
    """Return all differences, in the order of the LLMs.

    Examples
    --------
    >>> old = Catalogue.from_dict({"models": [{"name": "a", "budget_usd": 1}]})
    >>> more = [{"name": "a", "budget_usd": 2}, {"name": "b", "budget_usd": 1}]
    >>> new = Catalogue.from_dict({"models": more})
    >>> [str(change) for change in differences(old, new)]
    ['a: budget_usd 1 -> 2', 'b: added']
    """
    old = {model.name: model for model in before.models}
    new = {model.name: model for model in after.models}
    changes = [
        Change("all", name, getattr(before, name), getattr(after, name))
        for name in ("budget_usd", "split", "period", "allow")
        if getattr(before, name) != getattr(after, name)
    ]
    budgets = {budget.name: budget for budget in before.budgets}, {one.name: one for one in after.budgets}
    for name in dict.fromkeys((*budgets[0], *budgets[1])):
        if name not in budgets[0] or name not in budgets[1]:
            changes.append(Change(f"budget {name}", "added" if name in budgets[1] else "removed"))
        elif (old_fields := budget_to_dict(budgets[0][name])) != (
            new_fields := budget_to_dict(budgets[1][name])
        ):
            changes += [
                Change(f"budget {name}", field, old_fields.get(field), new_fields.get(field))
                for field in dict.fromkeys((*old_fields, *new_fields))
                if old_fields.get(field) != new_fields.get(field)
            ]
    for name, model in new.items():
        changes += [Change(name, "added")] if name not in old else _fields(old[name], model)
    return changes + [Change(name, "removed") for name in old if name not in new]


def _fields(before: Model, after: Model) -> list[Change]:
    return [
        Change(after.name, field, getattr(before, field), getattr(after, field))
        for field in COMPARED_FIELDS
        if getattr(before, field) != getattr(after, field)
    ]


def estimate_changes(before: Mapping[str, float], change: PriceChange) -> list[str]:
    """Return the changes of estimated costs that follow from list prices, for people.

    Parameters
    ----------
    before : mapping of str to float
        Factors in force.
    change : PriceChange
        Prices of the new catalogue and of the history.

    Examples
    --------
    >>> estimate_changes({}, PriceChange({"a": [2.0, 4.0]}, {"a": [1.0, 2.0]}))
    ["a: estimated costs are the history's times 2 (now times 1)"]
    """
    after = cost_factors(change.now, change.history or {})
    return [
        f"{name}: estimated costs are the history's times {after.get(name, 1.0):g} "
        f"(now times {before.get(name, 1.0):g})"
        for name in change.now
        if after.get(name, 1.0) != before.get(name, 1.0)
    ]


def catalogue_from_plan(file: Catalogue, plan: Plan | None) -> Catalogue:
    """Return the catalogue in force before the first is published: the file that the planner started with.

    The file may have changed since. LLMs, budgets and list prices come from the plan.

    Parameters
    ----------
    file : Catalogue
        The present content of the file.
    plan : Plan or None
        In force, or None if no planner has run yet.
    """
    if plan is None or not plan.priced_by:
        return file
    if not plan.per_llm:
        return _with_shared_budgets(file, plan)
    old = {model.name: model for model in file.models}
    models, total = [], 0
    for name, active, amount in zip(plan.models, plan.active, plan.catalogue_limits.tolist(), strict=True):
        if active:
            written = old.get(name, Model(name)).budget_usd
            budget = None if file.budget_usd is not None else _written_or_exact(written, amount)
            models.append(Model(name, budget, *plan.priced_by.get(name, (None, None))))
            total += amount
    if file.budget_usd is None:
        return Catalogue(tuple(models), period=file.period, allow=file.allow)
    # the split of a total rounds each LLM to a picodollar
    is_unchanged = abs(int(to_pico(file.budget_usd)) - total) <= len(models)
    return replace(
        file, models=tuple(models), budget_usd=file.budget_usd if is_unchanged else float(to_usd(total))
    )


def _with_shared_budgets(file: Catalogue, plan: Plan) -> Catalogue:
    """Return the file's catalogue with the LLMs, list prices and budgets of a plan with shared budgets."""
    old = {model.name: model for model in file.models}
    models = []
    for name, active in zip(plan.models, plan.active, strict=True):
        if active:
            prices = plan.priced_by.get(name, (None, None))
            models.append(replace(old.get(name, Model(name)), input_price=prices[0], output_price=prices[1]))
    total, listed = file.budget_usd, []
    known = {budget.name: budget for budget in file.budgets}
    for budget, column in zip(plan.counters.budgets, plan.counters.fixed_columns.tolist(), strict=True):
        if budget.name == TOTAL and file.budget_usd is not None:
            total = _written_or_exact(file.budget_usd, int(plan.catalogue_limits[column]))
        elif budget.name not in plan.models and budget.models:
            written = known.get(budget.name)
            listed.append(written if written == budget and written is not None else budget)
    try:
        return replace(file, models=tuple(models), budget_usd=total, budgets=tuple(listed))
    except CatalogueError:
        return file


def _written_or_exact(usd: float | None, pico: int) -> float:
    """Return the amount as written in the file if it equals `pico`, else `pico` in USD."""
    if usd == 0 and pico == int(to_pico(FREE_BUDGET)):
        return usd
    return usd if usd is not None and int(to_pico(usd)) == pico else float(to_usd(pico))


def _shown(value: object) -> str:
    if isinstance(value, QueryPeriod | TimePeriod | CalendarPeriod):
        value = period_to_dict(value)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
