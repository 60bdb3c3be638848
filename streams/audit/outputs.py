"""Decoding of input and output records into the fields that the audit compares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from routing.budgets.money import read_pico
from streams.audit.topic_records import TopicRecord
from streams.config.topic_names import Topics
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.deferred import (
    split_overflow_header,
)
from streams.messages.headers import Header
from streams.messages.query import (
    Query,
    decode_query,
)
from streams.messages.rejection import (
    RejectedMessage,
)
from streams.messages.routing_info import RoutingInfo

SERVED, UNSERVED, DEFERRED, DEAD = "served", "unserved", "deferred", "dead"


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One record of a lane's input.

    Parameters
    ----------
    id : str or None
        None if the record is not a valid query.
    body : int
        Digest of the bytes that every output of the query begins with.
    length : int
        Number of those bytes.
    value_digest, frame : int
        Digests of the record's value, and of key and headers.
    plain : int
        `frame` without the header that the router adds to deferred queries.
    source : (int, int) or None
        Partition and offset of the original query, for records of the overflow topic.
    attempt : int
        Number of the first decision about the record; above 1 if the query was returned and then deferred.
    """

    id: str | None
    body: int
    length: int
    value_digest: int
    frame: int
    plain: int
    source: tuple[int, int] | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One output of a lane for a query of its input.

    Parameters
    ----------
    entry : TopicRecord
    kind : str
    lane, offset : int
        Lane that decided, and offset of the query in its input.
    id : str or None
    model : str or None
    period, version : int or None
    price : float or None
    charge : int
        Picodollars reserved.
    source : (int, int) or None
        Partition and offset of a query that passed through the overflow lane.
    bounded : bool
        The charge is an upper bound of the answer's cost (`reserve=bound`).
    attempt : int
        Number of the decision; 0 for dead letters, which do not name it.
    """

    entry: TopicRecord
    kind: str
    lane: int
    offset: int
    id: str | None = None
    model: str | None = None
    period: int | None = None
    version: int | None = None
    price: float | None = None
    charge: int = 0
    source: tuple[int, int] | None = None
    bounded: bool = False
    attempt: int = 1


def decode_input(entry: TopicRecord, deferred: bool) -> InputRecord:
    """Decode a record of `queries` or of `router.overflow`."""
    identity, body = None, b""
    try:
        query = decode_query(entry.value, None)
        identity, body = query.id, output_prefix(query)
    except RejectedMessage:
        pass
    headers, source, attempt = split_frame(entry) if deferred else (entry.headers, None, 1)
    return InputRecord(
        identity,
        hash(body),
        len(body),
        hash(entry.value),
        frame(entry.key, entry.headers),
        frame(entry.key, headers),
        source,
        attempt,
    )


def split_frame(entry: TopicRecord) -> tuple[Sequence[Header], tuple[int, int] | None, int]:
    """Return a deferred query's original headers, source and attempt; no source without the header."""
    try:
        headers, own = split_overflow_header(entry.headers)
        fields = orjson.loads(own or b"")
        return headers, (int(fields["partition"]), int(fields["offset"])), int(fields.get("attempt", 1))
    except (ValueError, KeyError, TypeError):
        return entry.headers, None, 1


def output_prefix(query: Query) -> bytes:
    """Return the bytes that outputs of a query begin with: its value without the last brace."""
    return query.value.rstrip()[:-1]


def frame(key: bytes | None, headers: Iterable[Header]) -> int:
    """Return a digest of key and headers."""
    return hash((key, tuple((name, value) for name, value in headers)))


def read_output(entry: TopicRecord, topics: Topics, lanes: int) -> OutputRecord | None:
    """Decode an output, or return None if the router did not write it.

    Parameters
    ----------
    entry : TopicRecord
        Record of an LLM's topic, or of the topics of unserved, deferred and rejected queries.
    topics : Topics
    lanes : int
        Partitions of the queries; the overflow lane has this number.
    """
    try:
        if entry.topic == topics.dlq:
            return _read_dead_letter(entry, topics, lanes)
        if entry.topic == topics.overflow:
            deferred = decode_input(entry, deferred=True)
            if deferred.source is None:
                return None
            return OutputRecord(entry, DEFERRED, *deferred.source, id=deferred.id, attempt=deferred.attempt)
        return _read_routed(entry, entry.topic == topics.unserved)
    except (ValueError, KeyError, TypeError):
        return None


def _read_dead_letter(entry: TopicRecord, topics: Topics, lanes: int) -> OutputRecord | None:
    _, error = split_dead_letter_headers(entry.headers)
    if error.get("topic") not in (topics.queries, topics.overflow):
        return None
    lane = lanes if error["topic"] == topics.overflow else int(error["partition"])
    return OutputRecord(entry, DEAD, lane, int(error["offset"]), attempt=0)


def _read_routed(entry: TopicRecord, unserved: bool) -> OutputRecord:
    fields: dict[str, Any] = orjson.loads(entry.value or b"")
    routing = RoutingInfo.decode(fields)
    if routing.period is None or routing.plan is None:
        raise ValueError("routing names no plan")
    if unserved:
        return OutputRecord(
            entry,
            UNSERVED,
            routing.partition,
            routing.offset,
            fields["id"],
            period=routing.period,
            version=routing.plan,
            source=routing.source,
            attempt=routing.attempt,
        )
    if routing.model is None or routing.price is None or routing.cost is None:
        raise ValueError("routing names no LLM")
    return OutputRecord(
        entry,
        SERVED,
        routing.partition,
        routing.offset,
        fields["id"],
        routing.model,
        routing.period,
        routing.plan,
        routing.price,
        int(read_pico(routing.cost)),
        routing.source,
        bounded=routing.bound is not None,
        attempt=routing.attempt,
    )
