"""Rules of a catalogue besides its format: every LLM can be estimated and reserved on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from routing.budgets.catalogue import Catalogue
from routing.history.history import History
from routing.history.storage import FolderError, open_folder
from routing.policy.plan import Plan
from streams.config.settings import Settings


def lacking_prices(catalogue: Catalogue) -> str | None:
    """Return the reason why bounds cannot be reserved on the LLMs, or None if each has list prices."""
    unpriced = [one.name for one in catalogue.models if one.input_price is None or one.output_price is None]
    if not unpriced:
        return None
    return (
        f"reserve: 'bound' needs input_price and output_price of {', '.join(unpriced)}; add them to the "
        "catalogue, or set PORT_RESERVE=estimate"
    )


def unusable_llms(names: Sequence[str], known: Collection[str], exploration: float) -> list[str]:
    """Return the errors of a catalogue with LLMs that the history does not have.

    `config check`, the start of a worker and `plan apply` share this rule.

    Parameters
    ----------
    names : sequence of str
        LLMs of the catalogue.
    known : collection of str
        LLMs of the history.
    exploration : float
        Share of queries that measure LLMs without a history.

    Examples
    --------
    >>> unusable_llms(["a"], ["a"], 0.0), unusable_llms(["a", "z"], ["a"], 0.1)
    ([], [])
    >>> len(unusable_llms(["a", "z"], ["a"], 0.0))
    1
    """
    lacking = [name for name in names if name not in known]
    if not lacking:
        return []
    if len(lacking) == len(names):
        return [
            f"catalogue: no LLM in common with the history, which has {', '.join(known)}; "
            f"correct the names {', '.join(names)}"
        ]
    if exploration:
        return []
    return [
        f"catalogue: the history knows nothing of {', '.join(sorted(lacking))}; remove them, add their "
        "columns, or set PORT_EXPLORATION above 0 to measure them"
    ]


def apply_mistakes(settings: Settings, catalogue: Catalogue, plan: Plan | None) -> list[str]:
    """Return why a catalogue must not be published: a worker would not start with it.

    Parameters
    ----------
    settings : Settings
        Of the operator: the workers' history, `exploration` and `reserve`.
    catalogue : Catalogue
    plan : Plan or None
        In force.
    """
    priced = lacking_prices(catalogue) if settings.reserve == "bound" else None
    problems = [priced] if priced else []
    if (known := known_llms(settings)) is not None:
        return problems + unusable_llms(catalogue.names, known, settings.exploration)
    # without a history only the LLMs of the plan are known to be usable
    new = [name for name in catalogue.names if plan is None or name not in plan.models]
    if new and not settings.exploration:
        problems.append(
            f"history: not there, so nothing says whether it knows {', '.join(new)}; set PORT_HISTORY to the "
            "workers' folder, or PORT_EXPLORATION as they have it"
        )
    return problems


def known_llms(settings: Settings) -> tuple[str, ...] | None:
    """Return the LLMs of the history; None if no history is set or its folder is not on this machine."""
    if settings.history is None:
        return None
    try:
        return tuple(open_folder(settings.history).facts["models"])
    except (FileNotFoundError, FolderError, KeyError):
        return None


def unfunded_llms(catalogue: Catalogue, history: History, reserve: str) -> list[str]:
    """Return a note for each LLM that its budget of 0 makes unusable.

    An LLM without cost in the history needs no budget.

    Parameters
    ----------
    catalogue : Catalogue
    history : History
    reserve : {"estimate", "bound"}
    """
    costs = dict(zip(history.models, np.asarray(history.cost).mean(0).tolist(), strict=True))
    notes = []
    for model in catalogue.models:
        budget = model.budget_usd if catalogue.budget_usd is None else catalogue.budget_usd
        free_by_list = model.input_price == 0 and model.output_price == 0
        if budget != 0 or costs.get(model.name) == 0 or (reserve == "bound" and free_by_list):
            continue
        notes.append(
            f"budget_usd of {model.name!r}: 0, and its queries cost something, so none is sent to it; "
            "give it a budget, or remove it"
        )
    return notes
