"""Access to topics for the lanes of a worker whose transactions are rounds.

The consumer group says which worker owns a lane, and its offsets fence the former owner. A worker that takes
a lane over first waits until the group's offset is stable: then no transaction with it is open,
and none can be committed any more. It then reads the lane's topics to their ends. The offset carries the
digest of the lane's record, so that the record is read, and none before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.config.settings import Settings
from streams.kafka.alternating_producers import AlternatingProducers
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.complete_reading import BLOCKED_SECONDS, GIVE_UP_SECONDS, read_completely
from streams.kafka.offsets import PASSING_ERRORS, Place
from streams.kafka.rounds import LaneProducer, Rounds, record_digest
from streams.kafka.topic_access import TopicAccess

log = structlog.get_logger(__name__)

PASSING_OFFSET_ERRORS = PASSING_ERRORS | {
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError._WAIT_COORD,
    KafkaError._UNKNOWN_PARTITION,  # its leader was away when the client read the topic's metadata
}
"""Errors of requests for offsets that pass."""


WAITING_ERRORS = {KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT}
"""Errors of a request for stable offsets that say no more than that they are not stable yet."""

REQUEST_SECONDS = 10.0
"""Limit of a request for the ends of a partition."""


@dataclass(frozen=True)
class LaneTopics:
    """The partitions that belong to a lane.

    Parameters
    ----------
    input : Place
    record : Place
        Partition of the record that decides where the lane continues.
    others : tuple of Place
        Further partitions that the lane reads when it opens.
    """

    input: Place
    record: Place
    others: tuple[Place, ...] = ()


@dataclass(frozen=True)
class LastCommit:
    """A lane's last transaction, as the group's offset describes it.

    Parameters
    ----------
    digest : str
        Of the lane's record; empty if unknown.
    transactional_id : str
        Of the worker that wrote it; empty if unknown.
    offset : int
        Next input offset.
    """

    digest: str = ""
    transactional_id: str = ""
    offset: int = 0

    @classmethod
    def of(cls, metadata: str | None, offset: int = 0) -> LastCommit:
        """Decode the metadata that `Rounds` writes. Offsets that others committed have none."""
        digest, space, transactional_id = (metadata or "").partition(" ")
        return cls("" if digest == "-" else digest, transactional_id, offset) if space else cls(offset=offset)


def lane_topics(settings: Settings) -> dict[str, LaneTopics]:
    """Return the partitions of each lane, by the name with which its processor opens its producer."""
    topics, count = settings.topics, settings.partitions

    def lane(number: int, source: Place, record: Place) -> LaneTopics:
        others = (topics.reservations, topics.outcomes, topics.returned)
        return LaneTopics(source, record, tuple((topic, number) for topic in others))

    lanes = {
        f"lane-{number}": lane(number, (topics.queries, number), (topics.ledger, number))
        for number in range(count)
    }
    lanes[f"lane-{count}"] = lane(count, (topics.overflow, 0), (topics.overflow_ledger, 0))
    lanes["planner"] = LaneTopics((topics.samples, 0), (topics.plans, 0), ((topics.periods, 0),))
    return lanes


class OwnedLanes(TopicAccess):
    """Producers and readers of a worker's lanes.

    Parameters
    ----------
    settings : Settings
    rounds : Rounds
    """

    def __init__(self, settings: Settings, rounds: Rounds) -> None:
        super().__init__(settings)
        self._rounds, self._lanes = rounds, lane_topics(settings)
        self._last: dict[Place, LastCommit] = {}
        """Last commit of the lane that a partition belongs to."""
        self._clients: dict[str, Consumer] = {}
        self._lock = threading.Lock()

    def open_producer(self, name: str) -> LaneProducer:
        """Wait until no former owner of a lane can commit to it, and return the lane's producer.

        Raises
        ------
        KafkaException
            A transaction with the lane's offset stayed open, or the broker did not answer.
        """
        topics = self._lanes[name]
        # what an earlier process of this transactional id has left open
        self._rounds.producers()
        last = self._stable_commit(topics.input)
        if not last.transactional_id:
            # fence a worker with a transaction per lane, which no offset fences
            super().open_producer(name)
        with self._lock:
            for place in (topics.record, *topics.others):
                self._last[place] = last
        lane = self._rounds.open_lane(topics.input, topics.record[0], last.digest)
        if last.transactional_id != self._rounds.transactional_id:
            lane.claim(last.offset)
        return lane

    def read(
        self, topic: str, partition: int = 0, start: int = 0, stop: int | None = None
    ) -> Iterator[Message]:
        """Read a partition up to its present end, or to `stop`.

        Raises
        ------
        KafkaException
            The end was not reached in time.
        """
        place = (topic, partition)
        low, high = self._watermarks(place)
        last = self._last.get(place, LastCommit())
        is_record = any(lane.record == place for lane in self._lanes.values())

        def awaited(message: Message) -> bool:
            value = message.value()
            return value is not None and record_digest(value) == last.digest

        end = high if stop is None else min(stop, high)
        messages = read_completely(
            reader_config(self._settings),
            TopicPartition(topic, partition, max(start, low)),
            end,
            awaited=awaited if is_record and last.digest else None,
            on_blocked=lambda: self._fence(last.transactional_id, place),
        )
        for message in messages:
            if stop is None or (message.offset() or 0) < stop:
                yield message

    def close(self) -> None:
        """Close all clients."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _stable_commit(self, place: Place) -> LastCommit:
        """Return the group's offset of an input once no transaction with it is open."""
        began, fenced = time.monotonic(), False
        while True:
            try:
                seconds = REQUEST_SECONDS if fenced else BLOCKED_SECONDS
                return self._commit_of("read_committed", place, seconds)
            except KafkaException as error:
                waited = time.monotonic() - began
                if error.args[0].code() not in PASSING_OFFSET_ERRORS or waited > GIVE_UP_SECONDS:
                    raise
            if not fenced:
                fenced = True
                with suppress(KafkaException):
                    last = self._commit_of("read_uncommitted", place, REQUEST_SECONDS)
                    self._fence(last.transactional_id, place)
            time.sleep(0.05)

    def _watermarks(self, place: Place) -> tuple[int, int]:
        """Return a partition's first offset and its high watermark, also of open transactions."""
        began = time.monotonic()
        while True:
            try:
                with self._client("read_uncommitted") as client:
                    low, high = client.get_watermark_offsets(TopicPartition(*place), REQUEST_SECONDS)
                return int(low), int(high)
            except KafkaException as error:
                waited = time.monotonic() - began
                if error.args[0].code() not in PASSING_OFFSET_ERRORS or waited > GIVE_UP_SECONDS:
                    raise
            time.sleep(0.1)

    def _commit_of(self, isolation: str, place: Place, seconds: float) -> LastCommit:
        with self._client(isolation) as client:
            (committed,) = client.committed([TopicPartition(*place)], seconds)
        if committed.error is not None:
            raise KafkaException(committed.error)
        return (
            LastCommit.of(committed.metadata, int(committed.offset))
            if committed.offset >= 0
            else LastCommit()
        )

    def _fence(self, transactional_id: str, place: Place) -> None:
        """End the open transaction of a former owner, which may have died.

        A live one opens another producer: it has lost a lane that it had not finished.
        """
        if transactional_id in ("", self._rounds.transactional_id):
            return
        log.info("former_owner_fenced", topic=place[0], partition=place[1], id=transactional_id)
        own: dict[str, Any] = {"transactional.id": transactional_id}
        with suppress(KafkaException):
            AlternatingProducers(transactional_config(self._settings, "") | own)

    @contextmanager
    def _client(self, isolation: str) -> Iterator[Consumer]:
        """Lend a consumer that subscribes to nothing, for requests about offsets.

        A client that raised is not used again: it may keep the metadata of the time when a leader was away.
        """
        with self._lock:
            if isolation not in self._clients:
                own: dict[str, Any] = {"group.id": self._settings.app_id, "isolation.level": isolation}
                self._clients[isolation] = Consumer(reader_config(self._settings) | own)
            client = self._clients[isolation]
        try:
            yield client
        except KafkaException as error:
            waits = isolation == "read_committed" and error.args[0].code() in WAITING_ERRORS
            with self._lock:
                if not waits and self._clients.get(isolation) is client:
                    # not closed here: another thread may be using it
                    del self._clients[isolation]
            raise
