"""Where each query ended: reads what is committed on the LLMs' topics, the unserved and the dead letters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from routing.catalogue import Catalogue
from streams.dead_letters import split_dead_letter_headers
from streams.following import consume_soon
from streams.headers import headers_of
from streams.kafka import reader_config
from streams.settings import Settings
from streams.topics import end_offsets

UNSERVED, DEAD = -1, -2
"""Where a query ended when it is not an LLM, whose number in the catalogue is zero or more."""
FINAL_ERRORS = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}
LINGER_SECONDS = 1.0
"""How long it goes on after the last query was seen, for those that come twice."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A query where it ended.

    Parameters
    ----------
    id : str
    where : int
        Number of the LLM, `UNSERVED` or `DEAD`.
    partition, offset : int
        Of the query's own record; -1 where the message does not say.
    routing : dict
        What the router said about it.
    written_at, read_at : float
        Timestamp of the message, and when it was read committed; seconds since 1970.
    """

    id: str
    where: int
    partition: int
    offset: int
    routing: Mapping[str, Any]
    written_at: float
    read_at: float


class Collector:
    """Reads in a thread of its own from the moment it is made.

    Parameters
    ----------
    settings : Settings
    catalogue : Catalogue
    admin : AdminClient
    places : mapping
        Id of each query by partition and offset, filled while queries are sent: for dead letters without id,
        and to leave out what comes of records before ours.

    Raises
    ------
    ValueError
        A topic is not there.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        admin: AdminClient,
        places: Mapping[tuple[int, int], str],
    ) -> None:
        topics = settings.topics
        self._where = {topics.llm(slug): number for number, slug in enumerate(catalogue.slugs)}
        self._where |= {topics.unserved: UNSERVED, topics.dlq: DEAD}
        self._places = places
        self._first: dict[int, int] = {}
        starts = end_offsets(admin, list(self._where))
        self._consumer = Consumer(reader_config(settings, f"{settings.app_id}-collector"))
        self._consumer.assign([TopicPartition(name, number, at) for (name, number), at in starts.items()])
        self._wanted: set[str] | None = None
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.arrivals: list[Arrival] = []
        self.failure: str | None = None
        self.newest = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """Different queries seen so far."""
        return len(self._seen)

    @property
    def running(self) -> bool:
        """Whether it still reads."""
        return self._thread.is_alive()

    def until(self, ids: Iterable[str]) -> None:
        """Stops by itself a moment after all of these were seen; to be called when all are delivered."""
        first: dict[int, int] = {}
        for partition, offset in self._places:
            first[partition] = min(offset, first.get(partition, offset))
        with self._lock:
            self._first = first
            self.arrivals = [arrival for arrival in self.arrivals if self._ours(arrival)]
            self._seen = {arrival.id for arrival in self.arrivals}
            self._wanted = set(ids)

    def stop(self) -> None:
        """Stops now and closes."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        complete_at = None
        try:
            while not self._stopping.is_set():
                messages = consume_soon(self._consumer, 2000, 0.05)
                read_at = time.time()
                with self._lock:
                    for message in messages:
                        self._take(message, read_at)
                if complete_at is None and self._wanted is not None and self._seen >= self._wanted:
                    complete_at = time.monotonic()
                if complete_at is not None and time.monotonic() - complete_at > LINGER_SECONDS:
                    return
        except KafkaException as error:
            self.failure = error.args[0].str()
        except Exception as error:  # a message that no router wrote
            self.failure = repr(error)
        finally:
            self._consumer.close()

    def _take(self, message: Message, read_at: float) -> None:
        if error := message.error():
            if error.code() in FINAL_ERRORS:
                raise KafkaException(error)
            return  # the end of a partition, or what passes
        where = self._where[message.topic() or ""]
        arrival = self._dead(message, read_at) if where == DEAD else self._routed(message, where, read_at)
        if self._ours(arrival):
            self.arrivals.append(arrival)
            self._seen.add(arrival.id)
            self.newest = time.monotonic()

    def _ours(self, arrival: Arrival) -> bool:
        """Not of an earlier run with the same ids."""
        return arrival.offset < 0 or arrival.offset >= self._first.get(arrival.partition, 0)

    def _routed(self, message: Message, where: int, read_at: float) -> Arrival:
        fields = orjson.loads(message.value() or b"{}")
        routing = fields.get("routing") or {}
        if where == UNSERVED:
            routing["reason"] = fields.get("reason")
        # one that the overflow lane decided has its place there, and where it came from beside it
        place = routing.get("source") or (routing.get("partition", -1), routing.get("offset", -1))
        at = int(place[0]), int(place[1])
        return Arrival(fields["id"], where, *at, routing, message.timestamp()[1] / 1000, read_at)

    def _dead(self, message: Message, read_at: float) -> Arrival:
        _, errors = split_dead_letter_headers(headers_of(message))
        place = int(errors.get("partition", -1)), int(errors.get("offset", -1))
        try:
            identity = str(orjson.loads(message.value() or b"")["id"])
        except (ValueError, KeyError, TypeError, RecursionError):
            identity = self._places.get(place, f"partition {place[0]} offset {place[1]}")
        return Arrival(identity, DEAD, *place, errors, message.timestamp()[1] / 1000, read_at)
