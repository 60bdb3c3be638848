"""What another catalogue changes, told before it is published."""

from __future__ import annotations

from dataclasses import dataclass

from routing.catalogue import Catalogue, Model


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


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
