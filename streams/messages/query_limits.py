"""Optional fields of a query that say how it may be routed: weight, LLMs, limits and a deadline."""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from routing.budgets.money import MAX_USD
from streams.messages.fields import number_field, shown_value
from streams.messages.rejection import RejectedMessage, RejectionReason

MAX_WEIGHT = 1000.0
MAX_MODEL_PATTERNS = 100
MAX_PATTERN_CHARACTERS = 512
MAX_EPOCH_MILLISECONDS = 253_402_300_799_999
"""The last millisecond of the year 9999."""

LIMIT_FIELDS = frozenset({"weight", "models", "max_cost_usd", "min_quality", "deadline"})

_MEANT_FIELDS = {
    "model": "models",
    "llm": "models",
    "llms": "models",
    "allowedmodels": "models",
    "priority": "weight",
    "importance": "weight",
    "maxcost": "max_cost_usd",
    "costlimit": "max_cost_usd",
    "maxprice": "max_cost_usd",
    "quality": "min_quality",
    "minimumquality": "min_quality",
    "timeout": "deadline",
    "ttl": "deadline",
    "expires": "deadline",
    "expiresat": "deadline",
    "meta": "metadata",
    "tags": "metadata",
    "labels": "metadata",
    "maxtoken": "max_tokens",
    "maxcompletiontokens": "max_tokens",
}
"""Names that other systems use, in lower case without signs, and the field of a query that they resemble."""

_KNOWN_FIELDS = LIMIT_FIELDS | {
    "id",
    "prompt",
    "messages",
    "parameters",
    "embedding",
    "max_tokens",
    "metadata",
    "session",
    "routing",
    "reason",
}
_MAX_REMEMBERED_NAMES = 4096
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?\d*([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class QueryLimits(NamedTuple):
    """The fields of a query that say how it may be routed.

    Attributes
    ----------
    weight : float
        Factor of the query's quality, above 0.
    models : tuple of str or None
        Names or globs of the LLMs that may answer; `!name` excludes. None: all.
    max_cost_usd : float or None
        Largest amount that the query may reserve, in USD.
    min_quality : float or None
        Smallest estimated quality, 0 to 1.
    deadline : int or None
        Milliseconds since 1970 after which an answer has no use.
    """

    weight: float = 1.0
    models: tuple[str, ...] | None = None
    max_cost_usd: float | None = None
    min_quality: float | None = None
    deadline: int | None = None


NO_LIMITS = QueryLimits()


def decode_limits(fields: dict[str, Any]) -> QueryLimits:
    """Decode the limits of a query from the fields of its message.

    Raises
    ------
    RejectedMessage
        Stage "decode", with the first invalid field.

    Examples
    --------
    >>> decode_limits({"id": "a", "weight": 2, "models": ["gpt-*", "!gpt-4"]}).models
    ('gpt-*', '!gpt-4')
    """
    if LIMIT_FIELDS.isdisjoint(fields):
        return NO_LIMITS
    return QueryLimits(
        _weight(fields),
        _models(fields),
        number_field(fields, "max_cost_usd", MAX_USD),
        number_field(fields, "min_quality", 1.0),
        decode_deadline(fields),
    )


def similar_fields(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the unknown fields that resemble a known one, each with the field that was probably meant.

    Examples
    --------
    >>> similar_fields({"id": "a", "priority": 3, "maxCostUsd": 0.1, "team": "b"})
    [('priority', 'weight'), ('maxCostUsd', 'max_cost_usd')]
    """
    unknown = [name for name in fields if name not in _KNOWN_FIELDS]
    return [(name, meant) for name in unknown if (meant := _meant_field(name)) is not None]


@lru_cache(_MAX_REMEMBERED_NAMES)
def _meant_field(name: str) -> str | None:
    plain = "".join(character for character in name.lower() if character.isalnum())
    return _MEANT_FIELDS.get(plain) or _PLAIN_FIELDS.get(plain)


_PLAIN_FIELDS = {
    name.replace("_", ""): name for name in [*LIMIT_FIELDS, "max_tokens", "metadata", "embedding"]
}


def _weight(fields: dict[str, Any]) -> float:
    weight = fields.get("weight")
    if weight is None:
        return 1.0
    if type(weight) not in (int, float) or not 0 < weight <= MAX_WEIGHT:
        shown = shown_value(fields, "weight")
        raise RejectedMessage(
            RejectionReason.WEIGHT_OUT_OF_RANGE, "weight", shown=shown, limit=f"{MAX_WEIGHT:g}"
        )
    return float(weight)


def _models(fields: dict[str, Any]) -> tuple[str, ...] | None:
    models = fields.get("models")
    if models is None:
        return None
    if type(models) is not list or not 0 < len(models) <= MAX_MODEL_PATTERNS:
        shown = f"a list of {len(models)}" if type(models) is list else shown_value(fields, "models")
        raise RejectedMessage(RejectionReason.INVALID_MODELS, "models", shown=shown, limit=MAX_MODEL_PATTERNS)
    for number, pattern in enumerate(models):
        if type(pattern) is not str or not 0 < len(pattern.removeprefix("!")) <= MAX_PATTERN_CHARACTERS:
            raise RejectedMessage(
                RejectionReason.INVALID_MODEL_PATTERN,
                f"models[{number}]",
                shown=shown_value({"models": pattern}, "models"),
                limit=MAX_PATTERN_CHARACTERS,
            )
    return tuple(models)


def decode_deadline(fields: dict[str, Any]) -> int | None:
    """Return the deadline of a query in milliseconds since 1970; None if it has none.

    Raises
    ------
    RejectedMessage
        It is not a time.
    """
    deadline = fields.get("deadline")
    if deadline is None:
        return None
    if type(deadline) is int and 0 <= deadline <= MAX_EPOCH_MILLISECONDS:
        return deadline
    if type(deadline) is str and (milliseconds := _parse_time(deadline)) is not None:
        return milliseconds
    shown = shown_value(fields, "deadline")
    raise RejectedMessage(RejectionReason.INVALID_DEADLINE, "deadline", shown=shown)


def _parse_time(text: str) -> int | None:
    """Return the milliseconds since 1970 of a time by RFC 3339, or None if it is not one."""
    if _RFC_3339.fullmatch(text) is None:
        return None
    try:
        seconds = datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None
    return math.floor(seconds * 1000) if 0 <= 1000 * seconds <= MAX_EPOCH_MILLISECONDS else None
