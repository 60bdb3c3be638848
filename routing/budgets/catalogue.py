"""Catalogue of the LLMs, their list prices and the budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing.budgets.allow import AllowRule, allow_from_dict
from routing.budgets.budget import Budget
from routing.budgets.budget_schema import (
    budget_from_dict,
    budget_problems,
    budget_to_dict,
    duplicate_names,
)
from routing.budgets.model import Model, model_from_dict, model_problems
from routing.budgets.money import MAX_USD
from routing.budgets.period import Period
from routing.budgets.period_schema import period_from_dict, period_to_dict
from routing.budgets.schema import CatalogueError, check_amount, shown, unknown_keys
from routing.budgets.splits import SPLITS, split_budget

FREE_BUDGET = 1e-4
"""USD per period for an LLM that costs nothing and has no budget; each query reserves 1e-12."""

TOTAL = "total"
"""Name of the shared budget that `budget_usd` of a catalogue stands for."""

_CATALOGUE_KEYS = ("models", "budget_usd", "split", "budgets", "period", "allow")

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Catalogue:
    """The LLMs and the budgets; the order of the LLMs decides ties.

    Parameters
    ----------
    models : tuple of Model
    budget_usd : float, optional
        Total in USD per period, which all LLMs share.
    split : str, optional
        Divide the total over the LLMs instead, by one of `routing.budgets.splits.SPLITS`. The paper's is
        "weighted": sqrt(mean quality / mean cost).
    budgets : tuple of Budget
        Further budgets.
    period : Period, optional
        Period of the budgets; by default that of the settings.
    allow : tuple of AllowRule

    Raises
    ------
    CatalogueError
        The catalogue is invalid. The error lists all problems.
    """

    models: tuple[Model, ...]
    budget_usd: float | None = None
    split: str | None = None
    budgets: tuple[Budget, ...] = ()
    period: Period | None = None
    allow: tuple[AllowRule, ...] = ()

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise CatalogueError(problems)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(model.name for model in self.models)

    @property
    def slugs(self) -> tuple[str, ...]:
        """Slugs in order, without duplicates."""
        return tuple(model.slug for model in self.models)

    def resolve_budgets(self, quality_mean: ArrayLike, cost_mean: ArrayLike) -> tuple[Budget, ...]:
        """Return all budgets: those of LLMs, the total or its parts, and the listed ones.

        Parameters
        ----------
        quality_mean, cost_mean : array_like of float, shape [M]
            Means over the history in the catalogue's order (USD per query). They divide a total with `split`,
            and show which LLMs cost nothing.

        Examples
        --------
        >>> shared = Catalogue((Model("a"), Model("b")), budget_usd=5.0)
        >>> [budget.name for budget in shared.resolve_budgets([0.5, 0.5], [1.0, 1.0])]
        ['total']
        """
        if self.split is not None:
            amounts = self.budget_per_llm(quality_mean, cost_mean).tolist()
            per_llm = [_of_llm(name, amount) for name, amount in zip(self.names, amounts, strict=True)]
            return (*per_llm, *self.budgets)
        free = np.asarray(cost_mean, np.float64) == 0
        costs_nothing = dict(zip(self.names, free.tolist(), strict=False))
        per_llm = [
            _of_llm(one.name, one.budget_usd or (FREE_BUDGET if costs_nothing.get(one.name) else 0.0))
            for one in self.models
            if one.budget_usd is not None
        ]
        total = () if self.budget_usd is None else (Budget(TOTAL, limit=self.budget_usd),)
        return (*total, *per_llm, *self.budgets)

    def budget_per_llm(self, quality_mean: ArrayLike, cost_mean: ArrayLike) -> NDArray[np.float64]:
        """Return the budget of every LLM in USD per period, of a catalogue with a budget for each.

        Parameters
        ----------
        quality_mean, cost_mean : array_like of float, shape [M]
            Means over the history in the catalogue's order (USD per query); unused if every LLM has its own
            budget.

        Returns
        -------
        ndarray of float64, shape [M]
            An LLM that costs nothing has `FREE_BUDGET` instead of a budget of 0.
        """
        quality, cost = np.asarray(quality_mean, np.float64), np.asarray(cost_mean, np.float64)
        if self.budget_usd is None:
            budgets = np.array([model.budget_usd for model in self.models], dtype=np.float64)
            if len(cost) != len(budgets):
                return budgets
            return np.where((budgets == 0) & (cost == 0), FREE_BUDGET, budgets)
        return np.asarray(split_budget(self.budget_usd, quality, cost, self.split or "weighted"), np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without unset fields, for `from_dict`."""
        data: dict[str, Any] = {}
        if self.budget_usd is not None:
            data["budget_usd"] = self.budget_usd
        if self.split is not None:
            data["split"] = self.split
        if self.budgets:
            data["budgets"] = [budget_to_dict(budget) for budget in self.budgets]
        if self.period is not None:
            data["period"] = period_to_dict(self.period)
        if self.allow:
            data["allow"] = [rule.to_dict() for rule in self.allow]
        return {**data, "models": [model.to_dict() for model in self.models]}

    @classmethod
    def from_dict(cls, data: object) -> Catalogue:
        """Return the catalogue of plain data, for example of a YAML file.

        Parameters
        ----------
        data : mapping
            `models`: a list of names or of mappings with the fields of `Model`; `budget_usd`, `split`,
            `budgets`, `period` and `allow`.

        Raises
        ------
        CatalogueError
            The catalogue is invalid. The error lists all problems.

        Examples
        --------
        >>> Catalogue.from_dict({"budget_usd": 2, "models": ["gpt-4", {"name": "mixtral"}]}).names
        ('gpt-4', 'mixtral')
        """
        if not isinstance(data, Mapping):
            raise CatalogueError([f"catalogue: {shown(data)} is not a mapping; give it a list `models`"])
        problems = unknown_keys(data, _CATALOGUE_KEYS, "catalogue")
        models, bad_models = _models(data.get("models"))
        budgets, bad_budgets = _entries(data.get("budgets"), "budgets", budget_from_dict)
        allow, bad_rules = _entries(data.get("allow"), "allow", allow_from_dict)
        period, bad_period = (None, []) if data.get("period") is None else period_from_dict(data["period"])
        problems += bad_models + bad_budgets + bad_rules + bad_period
        unreadable = bool(bad_budgets)
        try:
            catalogue = cls(models, data.get("budget_usd"), data.get("split"), budgets, period, allow)
        except CatalogueError as error:
            # An empty list and a budget that cannot be read were reported above.
            others = [text for text in error.problems if text not in problems]
            others = [text for text in others if models or not text.startswith("models:")]
            others = [text for text in others if not unreadable or not text.startswith("budget_usd: missing")]
            raise CatalogueError(problems + others) from None
        if problems:
            raise CatalogueError(problems)
        return catalogue


def _of_llm(name: str, amount: float) -> Budget:
    return Budget(name, limit=float(amount), models=(name,))


def _models(entries: object) -> tuple[tuple[Model, ...], list[str]]:
    if not isinstance(entries, list) or not entries:
        return (), [f"models: {shown(entries)} is not a list; give at least one LLM"]
    models, problems = [], []
    for number, entry in enumerate(entries):
        fields: Any = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(fields, Mapping):
            problems.append(f"models[{number}]: {shown(entry)} is neither a name nor a mapping")
            continue
        model, bad = model_from_dict(fields, f"models[{number}]")
        problems += bad
        if model is not None:
            models.append(model)
    return tuple(models), problems


def _entries(
    entries: object, field: str, parse: Callable[[object, str], tuple[Parsed | None, list[str]]]
) -> tuple[tuple[Parsed, ...], list[str]]:
    if entries is None:
        return (), []
    if not isinstance(entries, list):
        return (), [f"{field}: {shown(entries)} is not a list of mappings"]
    parsed = [parse(entry, f"{field}[{number}]") for number, entry in enumerate(entries)]
    valid = tuple(one for one, _ in parsed if one is not None)
    return valid, [text for _, bad in parsed for text in bad]


def _problems(catalogue: Catalogue) -> list[str]:
    problems: list[str] = []
    if not catalogue.models:
        problems.append("models: the list is empty; give at least one LLM")
    names: set[str] = set()
    slugs: dict[str, str] = {}
    for model in catalogue.models:
        name = model.name
        if bad := model_problems(model):
            problems += bad
        if not isinstance(name, str):
            continue
        topic_key = model.slug.replace(".", "_")  # Kafka treats both characters as equal in topic names.
        if name in names:
            problems.append(f"name: {name!r} is a duplicate; remove one")
        elif topic_key in slugs:
            problems.append(
                f"name: {name!r} and {slugs[topic_key]!r} have the same topic llm.{model.slug} to Kafka; "
                "rename one"
            )
        names.add(name)
        slugs.setdefault(topic_key, name)
    problems += check_amount(catalogue.budget_usd, "budget_usd", MAX_USD)
    if catalogue.split is not None and catalogue.split not in SPLITS:
        problems.append(f"split: {shown(catalogue.split)} is none of {', '.join(SPLITS)}")
    for number, budget in enumerate(catalogue.budgets):
        problems += budget_problems(budget, f"budgets[{number}]")
    return problems + _coverage_problems(catalogue)


def _coverage_problems(catalogue: Catalogue) -> list[str]:
    """Return the contradictions between budgets, and the LLMs that no budget limits."""
    limited_models = [model for model in catalogue.models if model.budget_usd is not None]
    if catalogue.split is not None and catalogue.budget_usd is None:
        return ["split: there is no total to divide; add budget_usd or remove split"]
    if catalogue.split is not None and limited_models:
        return [
            f"budget_usd: `split` divides the total and {limited_models[0].name!r} has one of its own; "
            "remove `split`, so that all LLMs share the total, or the LLM's budget"
        ]
    names = [*(model.name for model in limited_models), *(budget.name for budget in catalogue.budgets)]
    shared = [TOTAL] if catalogue.budget_usd is not None and catalogue.split is None else []
    problems = duplicate_names([Budget(str(name)) for name in (*shared, *names)])
    if catalogue.budget_usd is not None:
        return problems
    limited = {model.name for model in limited_models}
    without = [
        model.name
        for model in catalogue.models
        if model.name not in limited
        and not any(isinstance(model.name, str) and one.covers([model.name])[0] for one in catalogue.budgets)
    ]
    if without:
        problems.append(
            f"budget_usd: missing for {without}; give every LLM one, a total for the catalogue, or a budget "
            "that covers it"
        )
    return problems
