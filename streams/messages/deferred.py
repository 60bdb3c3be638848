"""The header of a deferred query: its origin, estimates and charges."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson

from routing.arrays import (
    IntArray,
)
from routing.estimators.base import (
    Estimates,
)
from streams.messages.headers import Header, Headers
from streams.messages.record import (
    Record,
)
from streams.messages.routing_info import FIRST_ATTEMPT, Attempt

OVERFLOW_HEADER = "__router.overflow"


DEFERRED_COLUMNS = {"quality": "<f8", "cost": "<f8", "charge": "<i8"}
"""Columns of the header with one number per LLM, and their types before base64."""


def overflow_headers(
    lane: int,
    source: Record,
    estimates: Estimates,
    charge: IntArray,
    row: int,
    answer_tokens: int | None,
    attempt: Attempt = FIRST_ATTEMPT,
) -> Headers:
    """Return a deferred query's header: position, timestamp, uncorrected estimates, charges, later attempt.

    The record on the overflow topic gets a timestamp of its own, because the broker would delete a query that
    has waited long by its original one. If the charges are bounds, the header also has the answer tokens that
    they pay for, because the worker that routes the query may have other settings.
    """
    numbers = {"quality": estimates.quality[row], "cost": estimates.cost[row], "charge": charge[row]}
    packed = {name: pack_column(numbers[name], dtype) for name, dtype in DEFERRED_COLUMNS.items()}
    position = {"partition": lane, "offset": source.offset, "timestamp": source.timestamp}
    fields: dict[str, Any] = {**position, **packed}
    if answer_tokens is not None:
        fields["max_tokens"] = answer_tokens
    if estimates.cluster is not None:
        fields["cluster"] = int(estimates.cluster[row])
    if attempt.number > 1:
        fields |= {"attempt": attempt.number, "tried": attempt.tried}
    return [(OVERFLOW_HEADER, orjson.dumps(fields))]


def split_overflow_header(
    headers: Iterable[Header] | None,
) -> tuple[Headers, bytes | None]:
    """Split a deferred query's headers into its own and the value of the router's.

    A client's header of the same name stays.

    Raises
    ------
    KeyError
        The router's header is missing.
    """
    own = list(headers or ())
    for place in range(len(own) - 1, -1, -1):  # the router's is the last one of its name
        if own[place][0] == OVERFLOW_HEADER:
            return own, own.pop(place)[1]
    raise KeyError(OVERFLOW_HEADER)


def pack_column(numbers: np.ndarray, dtype: str) -> str:
    """Encode numbers as base64 of their bytes."""
    return binascii.b2a_base64(np.ascontiguousarray(numbers, dtype).tobytes(), newline=False).decode()


def unpack_column(text: str, dtype: str) -> np.ndarray:
    """Decode numbers from base64; ValueError if the text is not base64."""
    return np.frombuffer(binascii.a2b_base64(text, strict_mode=True), dtype)
