"""The overflow lane's input: queries that a partition could not pay, with what is known about them."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from routing.alignment import CLOSED_COST
from routing.decision import IntArray
from routing.estimators.base import Estimates, FloatArray
from streams.intake import Arrivals
from streams.lanes import Record
from streams.messages import Query, Refused, decode_query

HEADER = "__router.overflow"


def overflow_headers(
    lane: int, offset: int, estimates: Estimates, charge: IntArray, row: int
) -> list[tuple[str, bytes | None]]:
    """The header that a deferred query carries: where it came from, its estimates and charges."""
    numbers = (estimates.quality[row], estimates.cost[row], charge[row])
    body = {
        "partition": lane,
        "offset": offset,
        "quality": _pack(numbers[0], "<f8"),
        "cost": _pack(numbers[1], "<f8"),
        "charge": _pack(numbers[2], "<i8"),
    }
    return [(HEADER, orjson.dumps(body))]


class OverflowIntake:
    """Takes records of the topic `router.overflow`; nothing is embedded or estimated again."""

    models: tuple[str, ...] | None = None
    """Estimates are in the order of the plan by which the query was deferred."""

    def take(self, records: Sequence[Record], *, remember: bool = False) -> Arrivals:
        """Decode a batch; its records go on without our header."""
        good: list[Record] = []
        queries: list[Query] = []
        refused: list[tuple[Record, Refused]] = []
        sources: list[tuple[int, int]] = []
        columns: tuple[list[np.ndarray], ...] = ([], [], [])
        for record in records:
            try:
                body, plain = _split(record)
                query = decode_query(record.value, None)
            except Refused as error:
                refused.append((record, error))
                continue
            good.append(plain)
            queries.append(query)
            sources.append((body["partition"], body["offset"]))
            for column, (name, dtype) in zip(
                columns, (("quality", "<f8"), ("cost", "<f8"), ("charge", "<i8")), strict=True
            ):
                column.append(np.frombuffer(binascii.a2b_base64(body[name]), dtype))
        width = max((len(numbers) for numbers in columns[0]), default=0)
        quality: FloatArray = _stack(columns[0], width, 0.0)
        cost: FloatArray = _stack(columns[1], width, CLOSED_COST)
        charge: IntArray = _stack(columns[2], width, 0).astype(np.int64)
        return Arrivals(good, queries, Estimates(quality, cost), refused, charge, sources)

    def forget(self) -> None:
        """Nothing is remembered."""


class _Plain:
    """A record without the router's own header."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, record: Record, headers: list[tuple[str, bytes | None]]) -> None:
        self.topic, self.partition, self.offset = record.topic, record.partition, record.offset
        self.timestamp, self.key, self.value = record.timestamp, record.key, record.value
        self.headers = headers


def _split(record: Record) -> tuple[dict[str, Any], Record]:
    own = [value for name, value in record.headers or () if name == HEADER]
    if len(own) != 1 or own[0] is None:
        raise Refused(
            "decode", "headers", f"a deferred query has one header {HEADER}; this one has {len(own)}"
        )
    headers = [(name, value) for name, value in record.headers if name != HEADER]
    return orjson.loads(own[0]), _Plain(record, headers)


def _pack(numbers: np.ndarray, dtype: str) -> str:
    return binascii.b2a_base64(np.ascontiguousarray(numbers, dtype).tobytes(), newline=False).decode()


def _stack(rows: list[np.ndarray], width: int, missing: float) -> np.ndarray:
    """Rows of one width: a query deferred before an LLM was added knows nothing of it."""
    dtype = rows[0].dtype if rows else np.float64
    stacked = np.full((len(rows), width), missing, dtype=dtype)
    for row, numbers in enumerate(rows):
        stacked[row, : len(numbers)] = numbers
    return stacked
