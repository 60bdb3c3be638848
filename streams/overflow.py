"""The overflow lane's input: queries that a partition could not pay, with what is known about them."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    lane: int, offset: int, estimates: Estimates, charge: IntArray, row: int
) -> list[tuple[str, bytes | None]]:
    """The header that a deferred query carries: where it came from, its estimates and charges."""
    numbers = {"quality": estimates.quality[row], "cost": estimates.cost[row], "charge": charge[row]}
    packed = {name: _pack(numbers[name], dtype) for name, dtype in COLUMNS.items()}
    return [(HEADER, orjson.dumps({"partition": lane, "offset": offset, **packed}))]


class OverflowIntake:
    """Takes records of the topic `router.overflow`; nothing is embedded or estimated again."""

    models: tuple[str, ...] | None = None
    """Estimates are in the order of the plan by which the query was deferred."""

    def take(self, records: Sequence[Record], *, remember: bool = False) -> Arrivals:
        """Decode a batch; its records go on without our header."""
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
        return Arrivals(plain, queries, Estimates(quality, cost), refused, charge, sources)

    def forget(self) -> None:
        """Nothing is remembered."""


class _Plain:
    """A record without the router's own header."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, record: Record, headers: list[tuple[str, bytes | None]]) -> None:
        self.topic, self.partition, self.offset = record.topic, record.partition, record.offset
        self.timestamp, self.key, self.value = record.timestamp, record.key, record.value
        self.headers = headers


@dataclass(frozen=True)
class _Deferred:
    """A deferred query's record without our header, and what that said."""

    record: Record
    source: tuple[int, int]
    quality: FloatArray
    cost: FloatArray
    charge: IntArray


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
        numbers = {name: _unpack(body[name], dtype) for name, dtype in COLUMNS.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("decode", "headers", f"{HEADER} cannot be read ({error!r})") from None
    if len({len(column) for column in numbers.values()}) != 1:
        raise Refused("decode", "headers", f"{HEADER} has columns of different lengths")
    if not all(np.all(np.isfinite(column) & (column >= 0)) for column in numbers.values()):
        raise Refused("decode", "headers", f"{HEADER} has numbers that are negative or none")
    return _Deferred(_Plain(record, headers), source, **numbers)


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
