"""The overflow lane's input: queries that a partition could not pay, with what is known about them."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from routing.alignment import CLOSED_COST
from routing.decision import IntArray
from routing.estimators.base import Estimates, FloatArray
from streams.backlog import Record
from streams.intake import Arrivals
from streams.messages import Query, Refused, decode_query

HEADER = "__router.overflow"
COLUMNS = {"quality": "<f8", "cost": "<f8", "charge": "<i8"}
"""What the header has for each LLM, as base64 of these."""


def overflow_headers(
    lane: int, source: Record, estimates: Estimates, charge: IntArray, row: int, answer_tokens: int | None
) -> list[tuple[str, bytes | None]]:
    """The header that a deferred query carries: where it came from and when, its estimates and charges.

    The query's own timestamp is not made that of its record here, for the broker would delete by it what has
    waited for long. Where the charges are bounds the header has also the answer tokens that they pay for:
    whoever routes the query may be set up otherwise by then.
    """
    numbers = {"quality": estimates.quality[row], "cost": estimates.cost[row], "charge": charge[row]}
    packed = {name: _pack(numbers[name], dtype) for name, dtype in COLUMNS.items()}
    place = {"partition": lane, "offset": source.offset, "timestamp": source.timestamp}
    told: dict[str, Any] = {**place, **packed}
    if answer_tokens is not None:
        told["max_tokens"] = answer_tokens
    return [(HEADER, orjson.dumps(told))]


class OverflowIntake:
    """Takes records of the topic `router.overflow`; nothing is embedded or estimated again."""

    models: tuple[str, ...] | None = None
    """Estimates are in the order of the plan by which the query was deferred."""

    def take(self, records: Sequence[Record], *, remember: bool = False) -> Arrivals:
        """Decode a batch; its records go on without our header, with the timestamp they had on `queries`."""
        deferred: list[_Deferred] = []
        queries: list[Query] = []
        refused: list[tuple[Record, Refused]] = []
        for record in records:
            try:
                found = _read(record)
                queries.append(decode_query(record.value, None))
                deferred.append(found)
            except Refused as error:
                refused.append((record, error))
        width = max((len(one.quality) for one in deferred), default=0)
        quality: FloatArray = _stack([one.quality for one in deferred], width, 0.0)
        cost: FloatArray = _stack([one.cost for one in deferred], width, CLOSED_COST)
        charge: IntArray = _stack([one.charge for one in deferred], width, 0).astype(np.int64)
        plain = [one.record for one in deferred]
        sources = [one.source for one in deferred]
        bounds = [one.answer_tokens for one in deferred]
        return Arrivals(plain, queries, Estimates(quality, cost), refused, charge, bounds, sources)

    def forget(self) -> None:
        """Nothing is remembered."""


class _Plain:
    """A record as it was before it was deferred: without the router's own header, with its own timestamp."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, record: Record, headers: list[tuple[str, bytes | None]], timestamp: int) -> None:
        self.topic, self.partition, self.offset = record.topic, record.partition, record.offset
        self.key, self.value = record.key, record.value
        self.timestamp, self.headers = timestamp, headers


@dataclass(frozen=True)
class _Deferred:
    """A deferred query's record without our header, and what that said."""

    record: Record
    source: tuple[int, int]
    quality: FloatArray
    cost: FloatArray
    charge: IntArray
    answer_tokens: int | None


def without_own(
    headers: Iterable[tuple[str, bytes | None]] | None,
) -> tuple[list[tuple[str, bytes | None]], bytes | None]:
    """A deferred query's headers without ours, and what that says; a client's of the same name stays.

    Raises
    ------
    KeyError
        There is none.
    """
    rest = list(headers or ())
    for place in range(len(rest) - 1, -1, -1):  # ours came after all that the query had
        if rest[place][0] == HEADER:
            return rest, rest.pop(place)[1]
    raise KeyError(HEADER)


def _read(record: Record) -> _Deferred:
    """Take our header off a record."""
    try:
        headers, own = without_own(record.headers)
    except KeyError:
        raise Refused(
            "decode", "headers", f"a deferred query has the header {HEADER}; this one has none"
        ) from None
    try:
        body = orjson.loads(own or b"")
        source = int(body["partition"]), int(body["offset"])
        # an older worker does not tell it: how long the query waited before it was deferred is not known then
        timestamp = int(body.get("timestamp", record.timestamp))
        numbers = {name: _unpack(body[name], dtype) for name, dtype in COLUMNS.items()}
        most = None if (given := body.get("max_tokens")) is None else int(given)
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("decode", "headers", f"{HEADER} cannot be read ({error!r})") from None
    if len({len(column) for column in numbers.values()}) != 1:
        raise Refused("decode", "headers", f"{HEADER} has columns of different lengths")
    if not all(np.all(np.isfinite(column) & (column >= 0)) for column in numbers.values()):
        raise Refused("decode", "headers", f"{HEADER} has numbers that are negative or none")
    return _Deferred(_Plain(record, headers, timestamp), source, **numbers, answer_tokens=most)


def _pack(numbers: np.ndarray, dtype: str) -> str:
    return binascii.b2a_base64(np.ascontiguousarray(numbers, dtype).tobytes(), newline=False).decode()


def _unpack(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(binascii.a2b_base64(text, strict_mode=True), dtype)


def _stack(rows: list[np.ndarray], width: int, missing: float) -> np.ndarray:
    """Rows of one width: a query deferred before an LLM was added knows nothing of it."""
    dtype = rows[0].dtype if rows else np.float64
    stacked = np.full((len(rows), width), missing, dtype=dtype)
    for row, numbers in enumerate(rows):
        stacked[row, : len(numbers)] = numbers
    return stacked
