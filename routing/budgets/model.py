"""One LLM of a catalogue: its name, prices, context window and capabilities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from routing.budgets.money import MAX_USD
from routing.budgets.schema import check_amount, check_text, check_whole, shown, unknown_keys

CAPABILITIES = ("tools", "vision", "audio", "json_schema")
"""Abilities that a request may need: tool calls, images, audio, answers by a JSON schema."""

MAX_PRICE = 1e6
"""USD per million tokens."""

_NOT_IN_TOPIC_NAMES = re.compile(r"[^A-Za-z0-9._-]")
MAX_SLUG_CHARACTERS = 200
"""Kafka's limit for a topic name is 249 characters, prefix included."""


@dataclass(frozen=True)
class Model:
    """One LLM.

    Parameters
    ----------
    name : str
        As in the history's columns.
    budget_usd : float, optional
        Short form of a budget for this LLM alone, USD per period.
    input_price, output_price : float, optional
        USD per million tokens. Needed for `reserve=bound` and for an LLM without a history.
    cached_input_price : float, optional
        USD per million prompt tokens that a provider read from its cache; `input_price` by default.
    batch_discount : float, optional
        Share by which tokens cost less in a provider's batches, 0 to 1.
    request_fee : float, optional
        USD per request.
    context_window : int, optional
        Maximum tokens of prompt and answer together; unlimited by default.
    capabilities : tuple of str, optional
        Of `CAPABILITIES`. None: unknown, so that no request is refused for it.

    Examples
    --------
    >>> Model("mistralai/mixtral-8x7b-chat").slug
    'mistralai-mixtral-8x7b-chat'
    """

    name: str
    budget_usd: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    cached_input_price: float | None = None
    batch_discount: float | None = None
    request_fee: float | None = None
    context_window: int | None = None
    capabilities: tuple[str, ...] | None = None

    @property
    def slug(self) -> str:
        """The name for use in topic names: characters outside [A-Za-z0-9._-] become "-"."""
        return _NOT_IN_TOPIC_NAMES.sub("-", self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without unset fields, for `model_from_dict`."""
        data = {key: value for key in MODEL_KEYS if (value := getattr(self, key)) is not None}
        if self.capabilities is not None:
            data["capabilities"] = list(self.capabilities)
        return data


MODEL_KEYS = tuple(field.name for field in fields(Model))


def model_from_dict(data: Mapping[Any, Any], where: str) -> tuple[Model | None, list[str]]:
    """Return the LLM of an entry, or None, and the problems that `model_problems` cannot see."""
    problems = unknown_keys(data, MODEL_KEYS, where)
    if "name" not in data:
        return None, [*problems, f"{where}: has no name; add `name:`"]
    values = {key: data[key] for key in MODEL_KEYS if key in data}
    if (listed := values.get("capabilities")) is not None:
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            problems.append(f"{where}.capabilities: {shown(listed)} must be a list of texts")
            listed = []
        values["capabilities"] = tuple(listed)
    return Model(**values), problems


def model_problems(model: Model) -> list[str]:
    """Return what is wrong with an LLM's fields."""
    if problems := check_text(model.name, "name"):
        return problems
    name = model.name
    if len(model.slug) > MAX_SLUG_CHARACTERS:
        problems.append(
            f"name: {shown(name)} has {len(name)} characters; "
            f"at most {MAX_SLUG_CHARACTERS} can be a topic's name"
        )
    problems += check_amount(model.budget_usd, f"budget_usd of {name!r}", MAX_USD)
    for field in ("input_price", "output_price", "cached_input_price"):
        problems += check_amount(getattr(model, field), f"{field} of {name!r}", MAX_PRICE)
    problems += check_amount(model.batch_discount, f"batch_discount of {name!r}", 1.0)
    problems += check_amount(model.request_fee, f"request_fee of {name!r}", MAX_USD)
    problems += check_whole(model.context_window, f"context_window of {name!r}", 1, 10**9)
    for capability in model.capabilities or ():
        if capability not in CAPABILITIES:
            problems.append(
                f"capabilities of {name!r}: {shown(capability)} is none of {', '.join(CAPABILITIES)}"
            )
    return problems
