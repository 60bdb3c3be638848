"""The catalogue: which LLMs there are, what they cost, and how much may be spent on each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing.budgets import SPLITS, split_budget
from routing.money import MAX_USD

_MODEL_KEYS = ("name", "budget_usd", "input_price", "output_price")
_CATALOGUE_KEYS = ("models", "budget_usd", "split")
_NOT_IN_TOPIC_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_MAX_SLUG = 200  # Kafka's limit for a topic name is 249 characters, prefix included


class CatalogueError(ValueError):
    """A catalogue that cannot be used; `problems` has every reason, one a string."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Model:
    """One LLM.

    Parameters
    ----------
    name : str
        The name that the history's columns have.
    budget_usd : float, optional
        USD a period; None when the catalogue splits a total.
    input_price, output_price : float, optional
        USD per million tokens. Needed for `reserve=bound` and for an LLM without a history.

    Examples
    --------
    >>> Model("mistralai/mixtral-8x7b-chat").slug
    'mistralai-mixtral-8x7b-chat'
    """

    name: str
    budget_usd: float | None = None
    input_price: float | None = None
    output_price: float | None = None

    @property
    def slug(self) -> str:
        """The name as a part of a topic's name: characters outside [A-Za-z0-9._-] become "-"."""
        return _NOT_IN_TOPIC_NAMES.sub("-", self.name)


@dataclass(frozen=True)
class Catalogue:
    """The LLMs in their order, which decides ties, and their budgets.

    Either every model has a `budget_usd` of its own, or the catalogue has a total and none of them has.

    Parameters
    ----------
    models : tuple of Model
    budget_usd : float, optional
        Total in USD a period, split over the models by `split`.
    split : str
        One of `routing.budgets.SPLITS`; the paper's is "weighted" (sqrt of mean quality over mean cost).

    Raises
    ------
    CatalogueError
        With all that is wrong at once.
    """

    models: tuple[Model, ...]
    budget_usd: float | None = None
    split: str = "weighted"

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise CatalogueError(problems)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(model.name for model in self.models)

    @property
    def slugs(self) -> tuple[str, ...]:
        """Slugs in order; no two are the same."""
        return tuple(model.slug for model in self.models)

    def budgets(self, quality_mean: ArrayLike, cost_mean: ArrayLike) -> NDArray[np.float64]:
        """Budget of every LLM, in USD a period.

        Parameters
        ----------
        quality_mean, cost_mean : array_like of float, shape [M]
            Means over the history in the catalogue's order (USD a query); only a split total looks at them.

        Returns
        -------
        ndarray of float64, shape [M]
        """
        if self.budget_usd is None:
            return np.array([model.budget_usd for model in self.models], dtype=np.float64)
        quality, cost = np.asarray(quality_mean, np.float64), np.asarray(cost_mean, np.float64)
        return np.asarray(split_budget(self.budget_usd, quality, cost, self.split), np.float64)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without what is unset; `from_dict` reads it."""
        total = {} if self.budget_usd is None else {"budget_usd": self.budget_usd, "split": self.split}
        models = [
            {key: value for key in _MODEL_KEYS if (value := getattr(model, key)) is not None}
            for model in self.models
        ]
        return {**total, "models": models}

    @classmethod
    def from_dict(cls, data: object) -> Catalogue:
        """A catalogue of plain data, such as a YAML file has.

        Parameters
        ----------
        data : mapping
            `models`: a list of names or of mappings with the fields of `Model`; `budget_usd` and `split`.

        Raises
        ------
        CatalogueError
            With all that is wrong at once.

        Examples
        --------
        >>> Catalogue.from_dict({"budget_usd": 2, "models": ["gpt-4", {"name": "mixtral"}]}).names
        ('gpt-4', 'mixtral')
        """
        problems: list[str] = []
        if not isinstance(data, Mapping):
            raise CatalogueError([f"catalogue: {_shown(data)} is not a mapping; give it a list `models`"])
        problems += _unknown(data, _CATALOGUE_KEYS, "catalogue")
        entries = data.get("models")
        if not isinstance(entries, list) or not entries:
            problems.append(f"models: {_shown(entries)} is not a list; give at least one LLM")
            entries = []
        models = []
        for number, entry in enumerate(entries):
            fields: Any = {"name": entry} if isinstance(entry, str) else entry
            if not isinstance(fields, Mapping):
                problems.append(f"models[{number}]: {_shown(entry)} is neither a name nor a mapping")
                continue
            problems += _unknown(fields, _MODEL_KEYS, f"models[{number}]")
            if "name" not in fields:
                problems.append(f"models[{number}]: has no name; add `name:`")
                continue
            models.append(Model(**{key: fields[key] for key in _MODEL_KEYS if key in fields}))
        try:
            catalogue = cls(tuple(models), data.get("budget_usd"), data.get("split", "weighted"))
        except CatalogueError as error:
            # an empty list was told above
            told = [text for text in error.problems if models or not text.startswith("models:")]
            raise CatalogueError(problems + told) from None
        if problems:
            raise CatalogueError(problems)
        return catalogue


def _problems(catalogue: Catalogue) -> list[str]:
    found: list[str] = []
    if not catalogue.models:
        found.append("models: there is none; give at least one LLM")
    names: set[str] = set()
    slugs: dict[str, str] = {}
    for model in catalogue.models:
        name = model.name
        if not isinstance(name, str) or not name.strip():
            found.append(f"name: {_shown(name)} must be a text that is not empty")
            continue
        if any("\ud800" <= character <= "\udfff" for character in name):
            found.append(f"name: {_shown(name)} has half of a pair of characters, which no file can hold")
            continue
        place = model.slug.replace(".", "_")  # Kafka takes no topic that differs from another in these alone
        if name in names:
            found.append(f"name: {name!r} is there twice; remove one")
        elif place in slugs:
            found.append(
                f"name: {name!r} and {slugs[place]!r} have the same topic llm.{model.slug} to Kafka; "
                "rename one"
            )
        if len(model.slug) > _MAX_SLUG:
            found.append(
                f"name: {_shown(name)} has {len(name)} characters; at most {_MAX_SLUG} can be a topic's name"
            )
        names.add(name)
        slugs.setdefault(place, name)
        found += _amount(model.budget_usd, f"budget_usd of {name!r}", MAX_USD)
        found += _amount(model.input_price, f"input_price of {name!r}", 1e6)
        found += _amount(model.output_price, f"output_price of {name!r}", 1e6)
    found += _amount(catalogue.budget_usd, "budget_usd", MAX_USD)
    if catalogue.split not in SPLITS:
        found.append(f"split: {_shown(catalogue.split)} is none of {', '.join(SPLITS)}")
    own = [model.name for model in catalogue.models if model.budget_usd is not None]
    if catalogue.budget_usd is not None and own:
        found.append(
            f"budget_usd: there is a total and {own[0]!r} has one of its own; "
            "give either the total or one for every LLM"
        )
    if catalogue.budget_usd is None and len(own) < len(catalogue.models):
        without = [model.name for model in catalogue.models if model.budget_usd is None]
        found.append(f"budget_usd: missing for {without}; give every LLM one, or a total for the catalogue")
    return found


def _amount(value: object, field: str, most: float) -> list[str]:
    if value is None:
        return []
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 <= value <= most:  # type: ignore[operator]  # false for NaN
        return []
    hint = " (in YAML, 1e-3 is a text: write 1.0e-3)" if isinstance(value, str) else ""
    return [f"{field}: {_shown(value)} must be a number from 0 to {most:.0f}{hint}"]


def _unknown(data: Mapping[Any, Any], known: tuple[str, ...], where: str) -> list[str]:
    there_are = ", ".join(known)
    return [f"{where}: {_shown(key)} is unknown; there are {there_are}" for key in data if key not in known]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
