"""Rules that reserve queries with some value of a field for some LLMs, such as a region's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.budgets.budget import matches
from routing.budgets.schema import shown, unknown_keys

ALLOW_KEYS = ("field", "values", "models")


@dataclass(frozen=True)
class AllowRule:
    """Queries with one of these values of a field may go to these LLMs only.

    Parameters
    ----------
    field : str
        Field of the query, such as `metadata.region` or `header:tenant`.
    values : tuple of str
    models : tuple of str
        Names or globs; `!name` excludes.

    Examples
    --------
    >>> AllowRule("metadata.region", ("eu",), ("mistral*",)).allowed("eu", ("gpt-4", "mistral-7b")).tolist()
    [False, True]
    """

    field: str
    values: tuple[str, ...]
    models: tuple[str, ...]

    def allowed(self, value: str | None, models: Sequence[str]) -> NDArray[np.bool_]:
        """Return the LLMs that a query with this value of the field may go to, shape [M]."""
        if value not in self.values:
            return np.ones(len(models), dtype=bool)
        return np.array([matches(name, self.models) for name in models], dtype=bool)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for `allow_from_dict`."""
        return {"field": self.field, "values": list(self.values), "models": list(self.models)}


def allow_from_dict(data: object, where: str) -> tuple[AllowRule | None, list[str]]:
    """Return the rule of an entry of `allow`, or None, and its problems."""
    if not isinstance(data, Mapping):
        return None, [f"{where}: {shown(data)} is not a mapping; give it field, values and models"]
    problems = unknown_keys(data, ALLOW_KEYS, where)
    field = data.get("field")
    if not isinstance(field, str) or not field.startswith(("metadata.", "header:")):
        problems.append(f"{where}.field: {shown(field)} must be metadata.NAME or header:NAME")
    lists = {}
    for name in ("values", "models"):
        entries = data.get(name)
        entries = [entries] if isinstance(entries, str) else entries
        if not isinstance(entries, list) or not entries or not all(isinstance(one, str) for one in entries):
            problems.append(f"{where}.{name}: {shown(entries)} must be a list of texts")
        else:
            lists[name] = tuple(entries)
    if problems:
        return None, problems
    return AllowRule(str(field), lists["values"], lists["models"]), []
