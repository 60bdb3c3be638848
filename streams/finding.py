"""Where a query is: found by its id in reservations, unserved queries, dead letters, or what still waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from confluent_kafka import Message, TopicPartition

from routing.catalogue import Model
from streams.dead_letters import split_dead_letter_headers
from streams.headers import headers_of
from streams.ledger import LedgerRecord, period_of
from streams.overflow import without_own
from streams.reservations import Reserved, decode_reserved, id_digest
from streams.scanning import CLOCK_SECONDS, Scanner, written_at
from streams.settings import Settings

Stage = Literal["routed", "unserved", "refused", "deferred", "waiting"]


@dataclass(frozen=True)
class Sighting:
    """One decision about a query, or its lack.

    Parameters
    ----------
    stage : str
        What became of it there.
    lane, offset : int
        The lane that decided, and the query's offset in that lane's input.
    at : float
        When; seconds since the epoch.
    message : Message or None
        Where it went: on an LLM's topic, unserved, dead or deferred; None where that is gone.
    reserved : Reserved or None
        The lane's transaction with what it could spend; None where that is gone, and for those not decided.
    """

    stage: Stage
    lane: int
    offset: int
    at: float
    message: Message | None = None
    reserved: Reserved | None = None


class Finder:
    """Looks a query up.

    Parameters
    ----------
    settings : Settings
    scanner : Scanner
    names : callable
        The LLMs of the plan of a revision, in their order; no names when that plan is not known.
    llms : iterable of str
        Every LLM there was.
    since : float, optional
        Look no further back than this; seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        scanner: Scanner,
        names: Callable[[int], tuple[str, ...]],
        llms: Iterable[str],
        since: float | None = None,
    ) -> None:
        self._settings, self._topics = settings, settings.topics
        self._scanner, self._names, self._llms, self._since = scanner, names, list(llms), since

    def find(self, query_id: str) -> list[Sighting]:
        """All decisions about queries of this id, in the order of time."""
        found = [
            Sighting(
                "routed", lane, offset, reserved.created_at, self._routed(lane, offset, reserved), reserved
            )
            for lane, offset, reserved in self._reservations(query_id)
        ]
        found += [self._ended(message) for message in self._ends(query_id)]
        if not found:
            found = self._routed_long_ago(query_id)
        found += self._deferrals(query_id, found)
        return sorted(found or self._waiting(query_id), key=lambda sighting: sighting.at)

    # ---- served ------------------------------------------------------------------------------------------

    def _reservations(self, query_id: str) -> list[tuple[int, int, Reserved]]:
        """Lane, offset and transaction of every query of this id that was served."""
        digest = np.uint64(id_digest(query_id))
        found = []
        for message in self._all(self._topics.reservations):
            reserved = decode_reserved(message.value() or b"")
            for row in np.flatnonzero(reserved.ids == digest):
                found.append((int(message.partition() or 0), int(reserved.offsets[row]), reserved))
        return found

    def _routed(self, lane: int, offset: int, reserved: Reserved) -> Message | None:
        """The query on its LLM's topic."""
        names = self._names(reserved.revision)
        model = int(reserved.model[np.searchsorted(reserved.offsets, offset)])
        if model >= len(names):
            return None
        topic = self._topics.llm(Model(names[model]).slug)
        places = self._scanner.places_since(self._scanner.places(topic), reserved.created_at)
        for message in self._scanner.read(places):
            routing = _fields(message).get("routing") or {}
            if (routing.get("partition"), routing.get("offset")) == (lane, offset):
                return message
        return None

    def _routed_long_ago(self, query_id: str) -> list[Sighting]:
        """On the topics of LLMs, when the reservations of that time are gone."""
        found = []
        for name in self._llms:
            for message in self._with_id(query_id, self._all(self._topics.llm(Model(name).slug))):
                routing = _fields(message).get("routing") or {}
                lane, offset = int(routing.get("partition", -1)), int(routing.get("offset", -1))
                found.append(Sighting("routed", lane, offset, _routed_at(message, routing), message))
        return found

    # ---- not served --------------------------------------------------------------------------------------

    def _ends(self, query_id: str) -> list[Message]:
        """Unserved queries and dead letters of this id."""
        return list(self._with_id(query_id, self._all(self._topics.unserved, self._topics.dlq)))

    def _ended(self, message: Message) -> Sighting:
        if message.topic() == self._topics.dlq:
            _, told = split_dead_letter_headers(headers_of(message))
            # what a fleet refused was in no lane
            lane = int(told.get("partition", -1)) if told.get("topic") == self._topics.queries else -1
            if told.get("topic") == self._topics.overflow:
                lane = self._settings.partitions
            return Sighting("refused", lane, int(told.get("offset", -1)), written_at(message), message)
        routing = _fields(message).get("routing") or {}
        lane, offset = int(routing.get("partition", -1)), int(routing.get("offset", -1))
        at = _routed_at(message, routing)
        return Sighting("unserved", lane, offset, at, message, self.transaction(lane, offset, at))

    def _deferrals(self, query_id: str, found: list[Sighting]) -> list[Sighting]:
        """What lanes passed to the overflow lane: before its decisions, or waiting for them."""
        pool = self._settings.partitions
        decided = {sighting.offset for sighting in found if sighting.lane == pool}
        messages = [self._scanner.message_at(self._topics.overflow, 0, offset) for offset in sorted(decided)]
        if not found:
            messages = list(self._with_id(query_id, self._all(self._topics.overflow)))
        return [self._deferral(message) for message in messages if message is not None]

    def _deferral(self, message: Message) -> Sighting:
        source = deferred_from(message)
        at = written_at(message)
        return Sighting("deferred", *source, at, message, self.transaction(*source, at))

    def _waiting(self, query_id: str) -> list[Sighting]:
        """Among the queries that no lane has decided."""
        following: dict[int, int] = {}
        for message in self._all(self._topics.ledger):
            if (value := message.value()) is not None and period_of(message.key()) is None:
                following[int(message.partition() or 0)] = LedgerRecord.decode(value).next
        places = [
            TopicPartition(place.topic, place.partition, following.get(place.partition, 0))
            for place in self._scanner.places(self._topics.queries)
        ]
        return [
            Sighting(
                "waiting",
                int(message.partition() or 0),
                int(message.offset() or 0),
                written_at(message),
                message,
            )
            for message in self._with_id(query_id, self._scanner.read(places))
        ]

    # ---- parts of topics ---------------------------------------------------------------------------------

    def transaction(self, lane: int, offset: int, at: float) -> Reserved | None:
        """The transaction of a lane that decided the query at this offset, at about this time."""
        place = TopicPartition(self._topics.reservations, lane)
        if not 0 <= lane < self._scanner.partitions(self._topics.reservations):
            return None
        for message in self._scanner.read(self._scanner.places_since([place], at)):
            reserved = decode_reserved(message.value() or b"")
            if reserved.begin <= offset < reserved.end:
                return reserved
            if reserved.begin > offset or reserved.created_at > at + 2 * CLOCK_SECONDS:
                break
        return None

    def input_of(self, sighting: Sighting) -> Message | None:
        """The query as the lane got it; None where that is gone."""
        pool = sighting.lane == self._settings.partitions
        topic = self._topics.overflow if pool else self._topics.queries
        return self._scanner.message_at(topic, 0 if pool else sighting.lane, sighting.offset)

    def _all(self, *topics: str) -> Iterator[Message]:
        places = [place for topic in topics for place in self._scanner.places(topic)]
        if self._since is not None:
            places = self._scanner.places_since(places, self._since)
        return self._scanner.read(places)

    def _with_id(self, query_id: str, messages: Iterable[Message]) -> Iterator[Message]:
        plain = query_id.encode()
        for message in messages:
            value = message.value() or b""
            # an id can be spelled with escapes; the others need not be decoded
            if (plain in value or b"\\" in value) and _fields(message).get("id") == query_id:
                yield message


def deferred_from(message: Message) -> tuple[int, int]:
    """Lane and offset from which a query came to the overflow lane, by the header it carries."""
    try:
        body = orjson.loads(without_own(headers_of(message))[1] or b"{}")
    except KeyError:
        body = {}
    return int(body.get("partition", -1)), int(body.get("offset", -1))


def _fields(message: Message) -> dict[str, Any]:
    try:
        fields = orjson.loads(message.value() or b"")
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _routed_at(message: Message, routing: dict[str, Any]) -> float:
    moment = routing.get("routed_at")
    return float(moment) if isinstance(moment, int | float) else written_at(message)
