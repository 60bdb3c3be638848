"""Records of the topics that queries come in on and end on, as what they say about a query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from routing.money import read_pico
from streams.checks.logs import Entry, Headers
from streams.dead_letters import split_dead_letter_headers
from streams.messages import Query, Refused, decode_query
from streams.overflow import without_own
from streams.topic_names import Topics

SERVED, UNSERVED, DEFERRED, DEAD = "served", "unserved", "deferred", "dead"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record in a lane's input.

    Parameters
    ----------
    id : str or None
        None when it cannot be read as a query.
    body : int
        Digest of the bytes that every output of it begins with.
    length : int
        Of those bytes.
    whole, frame : int
        Digests of the record's value, and of key and headers.
    plain : int
        `frame` without the router's own header, which a deferred query has.
    source : (int, int) or None
        Partition and offset of the query, where the overflow lane is what it came to.
    """

    id: str | None
    body: int
    length: int
    whole: int
    frame: int
    plain: int
    source: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Landing:
    """A record that a lane wrote for a query of its input.

    Parameters
    ----------
    entry : Entry
    kind : str
    lane, offset : int
        Whose decision it is, and of which record of its input.
    id : str or None
    model : str or None
    period, version : int or None
    price : float or None
    charge : int
        Picodollars reserved.
    source : (int, int) or None
        Of a query that came through the overflow lane.
    """

    entry: Entry
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


def read_arrival(entry: Entry, deferred: bool) -> Arrival:
    """A record of `queries`, or of `router.overflow`, as the checker needs it."""
    identity, body = None, b""
    try:
        query = decode_query(entry.value, None)
        identity, body = query.id, extended(query)
    except Refused:
        pass
    headers, source = split_frame(entry) if deferred else (entry.headers, None)
    return Arrival(
        identity, hash(body), len(body), hash(entry.value), frame(entry.key, entry.headers),
        frame(entry.key, headers), source,
    )  # fmt: skip


def split_frame(entry: Entry) -> tuple[Headers, tuple[int, int] | None]:
    """Headers of a deferred query as it came in, and from where; None where the router's own is not there."""
    try:
        headers, own = without_own(entry.headers)
        fields = orjson.loads(own or b"")
        return headers, (int(fields["partition"]), int(fields["offset"]))
    except (ValueError, KeyError, TypeError):
        return entry.headers, None


def extended(query: Query) -> bytes:
    """What outputs of a query begin with: all of it but the last brace."""
    return query.value.rstrip()[:-1]


def frame(key: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Digest of a key and headers."""
    return hash((key, tuple((name, value) for name, value in headers)))


def read_landing(entry: Entry, topics: Topics, lanes: int) -> Landing | None:
    """What an output says; None when it is none of the router's.

    Parameters
    ----------
    entry : Entry
        Of an LLM's topic, or of those of unserved, deferred and refused queries.
    topics : Topics
    lanes : int
        Partitions of the queries, which is the number of the overflow lane too.
    """
    try:
        if entry.topic == topics.dlq:
            return _dead(entry, topics, lanes)
        if entry.topic == topics.overflow:
            arrival = read_arrival(entry, deferred=True)
            if arrival.source is None:
                return None
            return Landing(entry, DEFERRED, *arrival.source, id=arrival.id)
        return _routed(entry, entry.topic == topics.unserved)
    except (ValueError, KeyError, TypeError):
        return None


def _dead(entry: Entry, topics: Topics, lanes: int) -> Landing | None:
    _, told = split_dead_letter_headers(entry.headers)
    if told.get("topic") not in (topics.queries, topics.overflow):
        return None
    lane = lanes if told["topic"] == topics.overflow else int(told["partition"])
    return Landing(entry, DEAD, lane, int(told["offset"]))


def _routed(entry: Entry, unserved: bool) -> Landing:
    fields: dict[str, Any] = orjson.loads(entry.value or b"")
    routing = fields["routing"]
    source = routing.get("source")
    return Landing(
        entry,
        UNSERVED if unserved else SERVED,
        int(routing["partition"]),
        int(routing["offset"]),
        fields["id"],
        None if unserved else routing["model"],
        int(routing["period"]),
        int(routing["plan"]),
        None if unserved else float(routing["price"]),
        0 if unserved else int(read_pico(routing["cost"])),
        None if source is None else (int(source[0]), int(source[1])),
    )
