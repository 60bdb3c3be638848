"""Intake of the overflow lane: queries that lanes deferred, with their estimates and charges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routing.arrays import (
    FloatArray,
    IntArray,
)
from routing.estimators.base import (
    Estimates,
)
from routing.policy.alignment import CLOSED_COST
from streams.messages.deferred import OVERFLOW_HEADER, Deferral, split_overflow_header
from streams.messages.headers import Headers
from streams.messages.query import (
    Query,
    decode_query,
)
from streams.messages.record import (
    Record,
)
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.router.batch import (
    IntakeBatch,
)


class OverflowIntake:
    """Decodes records of the topic `router.overflow`. It embeds and estimates nothing again.

    Parameters
    ----------
    clusters : str
        Digest of the history's task clusters; empty if estimates are not corrected by reported quality.
    """

    models: tuple[str, ...] | None = None
    """None: estimates are in the order of the plan under which the query was deferred."""

    def __init__(self, clusters: str = "") -> None:
        self.clusters = clusters

    def decode(self, records: Sequence[Record], *, remember: bool = False) -> IntakeBatch:
        """Decode a batch. Its records lose the router's header and keep their timestamp from `queries`."""
        plain: list[Record] = []
        deferred: list[Deferral] = []
        queries: list[Query] = []
        refused: list[tuple[Record, RejectedMessage]] = []
        for record in records:
            try:
                original, deferral = _decode_deferred(record)
                queries.append(decode_query(record.value, None))
                plain.append(original)
                deferred.append(deferral)
            except RejectedMessage as error:
                refused.append((record, error))
        width = max((len(one.quality) for one in deferred), default=0)
        quality: FloatArray = _stack([one.quality for one in deferred], width, 0.0)
        cost: FloatArray = _stack([one.cost for one in deferred], width, CLOSED_COST)
        charge: IntArray = _stack([one.charge for one in deferred], width, 0).astype(np.int64)
        sources = [one.source for one in deferred]
        bounds = [one.answer_tokens for one in deferred]
        attempts = [one.attempt for one in deferred]
        cluster = np.array([one.cluster for one in deferred], dtype=np.int64) if self.clusters else None
        estimates = Estimates(quality, cost, cluster)
        return IntakeBatch(plain, queries, estimates, refused, charge, bounds, sources, attempts)

    def forget(self) -> None:
        """Do nothing: this intake remembers nothing."""


class _OriginalRecord:
    """A record as it was on `queries`: without the router's header, with its original timestamp."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, record: Record, headers: Headers, timestamp: int) -> None:
        self.topic, self.partition, self.offset = record.topic, record.partition, record.offset
        self.key, self.value = record.key, record.value
        self.timestamp, self.headers = timestamp, headers


def _decode_deferred(record: Record) -> tuple[Record, Deferral]:
    """Return a deferred query's record without the router's header, and the header."""
    try:
        headers, own = split_overflow_header(record.headers)
    except KeyError:
        raise RejectedMessage(RejectionReason.NOT_DEFERRED, "headers", header=OVERFLOW_HEADER) from None
    deferral = Deferral.decode(own)
    timestamp = record.timestamp if deferral.timestamp is None else deferral.timestamp
    return _OriginalRecord(record, headers, timestamp), deferral


def _stack(rows: list[np.ndarray], width: int, missing: float) -> np.ndarray:
    """Stack rows of different widths: a query deferred before an LLM was added has no column for it."""
    dtype = rows[0].dtype if rows else np.float64
    stacked = np.full((len(rows), width), missing, dtype=dtype)
    for row, numbers in enumerate(rows):
        stacked[row, : len(numbers)] = numbers
    return stacked
