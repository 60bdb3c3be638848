"""Checked fields of messages that only programs of the router write."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from streams.messages.fields import shown_value
from streams.messages.rejection import RejectedMessage, RejectionReason

MAX_COUNT = 2**63 - 1


def count_field(fields: Mapping[str, Any], name: str, maximum: int = MAX_COUNT, minimum: int = 0) -> int:
    """Return a whole number; RejectedMessage if it is missing or not in its range."""

    def valid(value: object) -> bool:
        return type(value) is int and minimum <= value <= maximum

    return int(_field(fields, name, valid, f"a whole number from {minimum} to {maximum}"))


def time_field(fields: Mapping[str, Any], name: str) -> float:
    """Return a time in seconds since 1970; RejectedMessage if it is missing or no number."""
    return float(_field(fields, name, _is_number, "a number of seconds"))


def text_field(fields: Mapping[str, Any], name: str) -> str:
    """Return a text; RejectedMessage if it is missing or no text."""
    return str(_field(fields, name, lambda value: type(value) is str, "a text"))


def object_field(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object; RejectedMessage if it is missing or no object."""
    return dict(_field(fields, name, lambda value: type(value) is dict, "an object"))


def invalid_field(fields: Mapping[str, Any], name: str, expected: str) -> RejectedMessage:
    """Return the error of a field that is missing or not as expected."""
    shown = shown_value(dict(fields), name)
    return RejectedMessage(RejectionReason.INVALID_INTERNAL_FIELD, name, shown=shown, expected=expected)


def _field(fields: Mapping[str, Any], name: str, valid: Callable[[object], bool], expected: str) -> Any:
    value = fields.get(name)
    if not valid(value):
        raise invalid_field(fields, name, expected)
    return value


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
