"""The header of a deferred query: its origin, estimates and charges."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from routing.arrays import FloatArray, IntArray
from routing.estimators.base import (
    Estimates,
)
from routing.feedback.plan_correction import UNKNOWN_CLUSTER
from streams.messages.fields import decode_object
from streams.messages.headers import Header, Headers
from streams.messages.internal_fields import count_field, invalid_field
from streams.messages.record import (
    Record,
)
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.routing_info import FIRST_ATTEMPT, MAX_ATTEMPT, Attempt

OVERFLOW_HEADER = "__router.overflow"

MAX_CLUSTER = 2**15 - 1
"""Largest task cluster: reservations have 16 bits for it."""

NO_TIMESTAMP = -1
"""Timestamp of a record that has none."""

DEFERRED_COLUMNS = {"quality": "<f8", "cost": "<f8", "charge": "<i8"}
"""Columns of the header with one number per LLM, and their types before base64."""


@dataclass(frozen=True)
class Deferral:
    """The router's header of a deferred query.

    Parameters
    ----------
    source : (int, int)
        Lane that deferred the query, and offset of the query in the lane's input.
    timestamp : int or None
        Of the query's record, in milliseconds since 1970; None in headers of older workers.
    quality, cost : ndarray of float64, shape [M]
        Uncorrected estimates, cost in USD.
    charge : ndarray of int64, shape [M]
        Picodollars to reserve.
    answer_tokens : int or None
        Answer tokens that the charges pay for, if they are bounds.
    cluster : int
        Task cluster; -1 if the query has none.
    attempt : Attempt
        The decision that was deferred.
    """

    source: tuple[int, int]
    timestamp: int | None
    quality: FloatArray
    cost: FloatArray
    charge: IntArray
    answer_tokens: int | None
    cluster: int
    attempt: Attempt

    @classmethod
    def decode(cls, value: bytes | None) -> Deferral:
        """Decode the value of the header.

        Raises
        ------
        RejectedMessage
            The router did not write it.
        """
        try:
            fields = decode_object(value)
            source = count_field(fields, "partition"), count_field(fields, "offset")
            # an older worker does not write it: the time before the deferral is then unknown
            known = "timestamp" in fields
            timestamp = count_field(fields, "timestamp", minimum=NO_TIMESTAMP) if known else None
            columns = {name: unpack_column(fields[name], dtype) for name, dtype in DEFERRED_COLUMNS.items()}
            tokens = None if fields.get("max_tokens") is None else count_field(fields, "max_tokens")
            plain = {"cluster": UNKNOWN_CLUSTER, "attempt": 1, "tried": [], **fields}
            cluster = count_field(plain, "cluster", MAX_CLUSTER, UNKNOWN_CLUSTER)
            attempt = Attempt(count_field(plain, "attempt", MAX_ATTEMPT, 1), _tried(plain))
        except (ValueError, KeyError, TypeError, RejectedMessage) as error:
            shown = str(error) if isinstance(error, RejectedMessage) else repr(error)
            reason = RejectionReason.INVALID_OVERFLOW_HEADER
            raise RejectedMessage(reason, "headers", header=OVERFLOW_HEADER, error=shown) from None
        if len({len(column) for column in columns.values()}) != 1:
            raise RejectedMessage(RejectionReason.UNEVEN_OVERFLOW_HEADER, "headers", header=OVERFLOW_HEADER)
        if not all(np.all(np.isfinite(column) & (column >= 0)) for column in columns.values()):
            reason = RejectionReason.NEGATIVE_OVERFLOW_HEADER
            raise RejectedMessage(reason, "headers", header=OVERFLOW_HEADER)
        return cls(source, timestamp, **columns, answer_tokens=tokens, cluster=cluster, attempt=attempt)


def _tried(fields: dict[str, Any]) -> tuple[str, ...]:
    tried = fields["tried"]
    if not isinstance(tried, list) or not all(isinstance(name, str) for name in tried):
        raise invalid_field(fields, "tried", "a list of LLMs")
    return tuple(tried)


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
