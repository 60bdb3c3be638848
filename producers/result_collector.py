"""Find each query on the LLMs' topics, among the unserved queries or among the dead letters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from routing.budgets.catalogue import Catalogue
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient, Consumer
from streams.kafka.clients import reader_config
from streams.kafka.follower import consume_available
from streams.kafka.topics import end_offsets
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.fields import shown_id
from streams.messages.headers import headers_of
from streams.messages.routing_info import RoutingInfo

UNSERVED, DEAD = -1, -2
"""Values of `CollectedResult.destination` for other topics than those of the LLMs."""
FINAL_ERRORS = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}
LINGER_SECONDS = 1.0
"""Reading time after the last query was found, to detect duplicates."""


@dataclass(frozen=True, slots=True)
class CollectedResult:
    """A query and the topic it was found on.

    Parameters
    ----------
    id : str
    destination : int
        Number of the LLM in the catalogue, `UNSERVED` or `DEAD`.
    partition, offset : int
        Position of the query's own record; -1 if the message does not name it.
    routing : RoutingInfo or None
        The router's decision; None for dead letters.
    reason : str or None
        Why the query is unserved or was rejected.
    written_at, read_at : float
        Timestamp of the message, and time of the committed read; seconds since 1970.
    """

    id: str
    destination: int
    partition: int
    offset: int
    routing: RoutingInfo | None
    reason: str | None
    written_at: float
    read_at: float

    @property
    def attempt(self) -> int:
        """Number of the decision about the query; 1 for dead letters, which do not name it."""
        return 1 if self.routing is None else self.routing.attempt


class ResultCollector:
    """Reads in its own thread from the moment it is created.

    Parameters
    ----------
    settings : Settings
    catalogue : Catalogue
    admin : AdminClient
    positions : mapping
        Id of each sent query by partition and offset, filled while queries are sent. Names dead letters
        without an id, and excludes results of older records.

    Raises
    ------
    ValueError
        A topic does not exist.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        admin: AdminClient,
        positions: Mapping[tuple[int, int], str],
    ) -> None:
        topics = settings.topics
        self._destinations = {topics.llm(slug): number for number, slug in enumerate(catalogue.slugs)}
        self._destinations |= {topics.unserved: UNSERVED, topics.dlq: DEAD}
        self._positions = positions
        self._first: dict[int, int] = {}
        starts = end_offsets(admin, list(self._destinations))
        self._consumer = Consumer(reader_config(settings, f"{settings.app_id}-collector"))
        self._consumer.assign([TopicPartition(name, number, at) for (name, number), at in starts.items()])
        self._expected: set[str] | None = None
        self._found: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.results: list[CollectedResult] = []
        self.failure: str | None = None
        self.newest = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """Number of distinct queries found so far."""
        return len(self._found)

    @property
    def running(self) -> bool:
        """True if the thread still reads."""
        return self._thread.is_alive()

    def stop_after(self, ids: Iterable[str]) -> None:
        """Stop soon after all of these were found. Call this when all queries are delivered."""
        first: dict[int, int] = {}
        for partition, offset in self._positions:
            first[partition] = min(offset, first.get(partition, offset))
        with self._lock:
            self._first = first
            self.results = [result for result in self.results if self._is_recent(result)]
            self._found = {result.id for result in self.results}
            self._expected = set(ids)

    def stop(self) -> None:
        """Stop reading now and close the consumer."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        complete_at = None
        try:
            while not self._stopping.is_set():
                messages = consume_available(self._consumer, 2000, 0.05)
                read_at = time.time()
                with self._lock:
                    for message in messages:
                        self._record(message, read_at)
                if complete_at is None and self._expected is not None and self._found >= self._expected:
                    complete_at = time.monotonic()
                if complete_at is not None and time.monotonic() - complete_at > LINGER_SECONDS:
                    return
        except KafkaException as error:
            self.failure = error.args[0].str()
        except Exception as error:  # a message that the router did not write
            self.failure = repr(error)
        finally:
            self._consumer.close()

    def _record(self, message: Message, read_at: float) -> None:
        if error := message.error():
            if error.code() in FINAL_ERRORS:
                raise KafkaException(error)
            return  # the end of a partition, or a temporary error
        destination = self._destinations[message.topic() or ""]
        result = (
            self._decode_dead_letter(message, read_at)
            if destination == DEAD
            else self._decode_routed(message, destination, read_at)
        )
        if self._is_recent(result):
            self.results.append(result)
            self._found.add(result.id)
            self.newest = time.monotonic()

    def _is_recent(self, result: CollectedResult) -> bool:
        """Return whether a result is not of an earlier run with the same ids."""
        return result.offset < 0 or result.offset >= self._first.get(result.partition, 0)

    def _decode_routed(self, message: Message, destination: int, read_at: float) -> CollectedResult:
        fields = orjson.loads(message.value() or b"{}")
        routing = RoutingInfo.find(fields)
        reason = fields.get("reason") if destination == UNSERVED else None
        # queries decided by the overflow lane have their position there, and the original one in `source`
        position = (-1, -1) if routing is None else routing.origin
        written_at = message.timestamp()[1] / 1000
        return CollectedResult(fields["id"], destination, *position, routing, reason, written_at, read_at)

    def _decode_dead_letter(self, message: Message, read_at: float) -> CollectedResult:
        _, errors = split_dead_letter_headers(headers_of(message))
        position = int(errors.get("partition", -1)), int(errors.get("offset", -1))
        try:
            identity = shown_id(orjson.loads(message.value() or b"")["id"])
        except (ValueError, KeyError, TypeError):
            identity = self._positions.get(position, f"partition {position[0]} offset {position[1]}")
        reason, written_at = errors.get("exception.message"), message.timestamp()[1] / 1000
        return CollectedResult(identity, DEAD, *position, None, reason, written_at, read_at)
