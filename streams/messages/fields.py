"""Decoding and checking of JSON fields, shared by the message formats."""

from __future__ import annotations

import binascii
import math
import reprlib
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streams.messages.rejection import RejectedMessage, RejectionReason

MAX_VALUE_BYTES = 4 * 2**20
"""Maximum size of a message's value."""

MAX_ID_CHARACTERS = 512

ORJSON_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def decode_object(value: bytes | None) -> dict[str, Any]:
    """Decode a JSON object; RejectedMessage if the value is anything else."""
    if value is None:
        raise RejectedMessage(RejectionReason.NULL_VALUE, "value")
    if len(value) > MAX_VALUE_BYTES:
        raise RejectedMessage(RejectionReason.TOO_MANY_BYTES, "value", size=len(value), limit=MAX_VALUE_BYTES)
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise RejectedMessage(RejectionReason.NOT_JSON, "value", error=error) from None
    if type(fields) is not dict:
        raise RejectedMessage(RejectionReason.NOT_AN_OBJECT, "value", kind=type(fields).__name__)
    return fields


def text_id(fields: dict[str, Any]) -> str:
    """Return the field `id`; RejectedMessage if it is missing, empty, too long or not a text."""
    text = fields.get("id")
    if type(text) is not str or not text:
        raise RejectedMessage(RejectionReason.EMPTY_TEXT, "id", shown=shown_value(fields, "id"))
    if len(text) > MAX_ID_CHARACTERS:
        raise RejectedMessage(RejectionReason.ID_TOO_LONG, "id", size=len(text), limit=MAX_ID_CHARACTERS)
    return text


def shown_id(value: object) -> str:
    """Return an id of any type as people see it; lists and objects, which are invalid, are shortened.

    Examples
    --------
    >>> shown_id(7), shown_id([[[[[[[[]]]]]]]])
    ('7', '[[[[[[[...]]]]]]]')
    """
    return reprlib.repr(value) if isinstance(value, dict | list) else str(value)


def number_field(fields: dict[str, Any], name: str, maximum: float) -> float | None:
    """Return a number from 0 to `maximum`, None if it is missing; RejectedMessage if it is invalid."""
    number = fields.get(name)
    if number is None:
        return None
    if type(number) not in (int, float) or not (math.isfinite(number) and 0 <= number <= maximum):
        shown = shown_value(fields, name)
        raise RejectedMessage(RejectionReason.NUMBER_OUT_OF_RANGE, name, shown=shown, limit=f"{maximum:g}")
    return float(number)


def to_base64(numbers: NDArray[np.floating], dtype: str) -> str:
    """Encode numbers as base64 of their little-endian bytes."""
    return binascii.b2a_base64(np.ascontiguousarray(numbers, dtype).data, newline=False).decode("ascii")


def shown_value(fields: dict[str, Any], name: str) -> str:
    """Return the value of a field, shortened, for an error message."""
    if name not in fields:
        return "is missing;"
    text = repr(fields[name]) if not isinstance(fields[name], dict | list) else type(fields[name]).__name__
    return text if len(text) <= 60 else text[:57] + "..."
