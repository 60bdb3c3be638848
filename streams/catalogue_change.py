"""What another catalogue changes, told before it is published, and what is in force without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from routing.catalogue import Catalogue, Model
from routing.list_prices import PriceChange, cost_factors
from routing.money import to_pico, to_usd
from routing.plan import Plan


@dataclass(frozen=True)
class Change:
    """One difference between two catalogues.

    Parameters
    ----------
    model : str
        The LLM, or "all" for what concerns the whole catalogue.
    what : str
        "added", "removed", or the name of the field.
    before, after : object
        Values; None where there is none.
    """

    model: str
    what: str
    before: object = None
    after: object = None

    def __str__(self) -> str:
        if self.what in ("added", "removed"):
            return f"{self.model}: {self.what}"
        return f"{self.model}: {self.what} {_shown(self.before)} -> {_shown(self.after)}"


FIELDS = ("budget_usd", "input_price", "output_price")


def differences(before: Catalogue, after: Catalogue) -> list[Change]:
    """Every difference, in the order of the LLMs.

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
        for name in ("budget_usd", "split")
        if getattr(before, name) != getattr(after, name)
    ]
    for name, model in new.items():
        changes += [Change(name, "added")] if name not in old else _fields(old[name], model)
    return changes + [Change(name, "removed") for name in old if name not in new]


def _fields(before: Model, after: Model) -> list[Change]:
    return [
        Change(after.name, field, getattr(before, field), getattr(after, field))
        for field in FIELDS
        if getattr(before, field) != getattr(after, field)
    ]


def estimate_changes(before: Mapping[str, float], change: PriceChange) -> list[str]:
    """How estimated costs follow from list prices, for people.

    Parameters
    ----------
    before : mapping of str to float
        Factors in force.
    change : PriceChange
        The other catalogue's prices, and the history's.

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


def as_planned(file: Catalogue, plan: Plan | None) -> Catalogue:
    """What is in force while no catalogue was published: the file that the first planner started with.

    Files may have been changed since; the plan tells LLMs, budgets and list prices.

    Parameters
    ----------
    file : Catalogue
        As it is now.
    plan : Plan or None
        In force; None where no planner has run yet.
    """
    if plan is None or not plan.priced_by:
        return file
    old = {model.name: model for model in file.models}
    models, total = [], 0
    for name, active, amount in zip(plan.models, plan.active, plan.budgets.tolist(), strict=True):
        if active:
            known = old.get(name, Model(name)).budget_usd
            budget = None if file.budget_usd is not None else _same_or(known, amount)
            models.append(Model(name, budget, *plan.priced_by.get(name, (None, None))))
            total += amount
    if file.budget_usd is None:
        return Catalogue(tuple(models))
    # a total is split to the picodollar for each LLM
    same = abs(int(to_pico(file.budget_usd)) - total) <= len(models)
    return replace(file, models=tuple(models), budget_usd=file.budget_usd if same else float(to_usd(total)))


def _same_or(usd: float | None, pico: int) -> float:
    """An amount as it was written, where it is the same; else in USD."""
    return usd if usd is not None and int(to_pico(usd)) == pico else float(to_usd(pico))


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
