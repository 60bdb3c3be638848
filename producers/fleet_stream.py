"""A fleet's side of the broker: queries in from a consumer group, answers out with the group's offsets."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from producers.fleet_messages import Headers
from producers.fleet_progress import MOST_AHEAD, Progress
from streams.kafka import reader_config, transactional_config
from streams.settings import Settings
from streams.transactions import FencedProducer

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
COMMITS_BEFORE_LEAVING = 3
"""Answers that are not committed when a partition goes to another worker are asked and paid for again."""
STABLE_SECONDS = 30.0
"""Beyond the transaction timeout: how long a committed offset is asked for while another's commit is open."""

FATAL = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


@dataclass(frozen=True)
class Outgoing:
    """A message to be written when an answer is committed."""

    topic: str
    value: bytes | None
    key: bytes | None
    headers: Headers
    partition: int = -1


@dataclass(frozen=True)
class Finished:
    """An answer: the message that it is for, and what is to be written."""

    partition: int
    offset: int
    messages: tuple[Outgoing, ...]


class FleetStream:
    """Reads an LLM's topic and commits answers, outcomes and offsets together.

    All methods but `finish` are to be called by one thread at a time; rebalances happen within `take`.

    Parameters
    ----------
    settings : Settings
    topic : str
        The LLM's.
    group : str
        Consumer group of all workers of the fleet.
    name : str
        Of this worker, for its transactions; no other may have it.
    drain : callable
        Called with partitions that are taken away: waits for their answers for a while.
    drop : callable
        Called with partitions that are gone: their queries are not to be answered here any more.

    Raises
    ------
    KafkaException
        From any method: the topic is not there, access is denied, or the broker is away for too long.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        group: str,
        name: str,
        drain: Callable[[set[int]], None],
        drop: Callable[[set[int]], None],
    ) -> None:
        self._topic, self._drain, self._drop = topic, drain, drop
        self._stable_seconds = settings.transaction_timeout_seconds + STABLE_SECONDS
        self._transactional = transactional_config(settings, name)
        self._producer: FencedProducer | None = None
        self._progress: dict[int, Progress] = {}
        self._paused: set[int] = set()
        self._membership: object | None = None
        self._finished: deque[Finished] = deque()
        config = reader_config(settings, group) | {
            # all partitions change hands at once: whoever commits under an older membership is refused
            "partition.assignment.strategy": "range",
            "session.timeout.ms": int(settings.session_timeout_seconds * 1000),
        }
        self._consumer = Consumer(config)
        self._consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    # ---- queries in --------------------------------------------------------------------------------------

    def take(self, room: int, seconds: float) -> list[Message]:
        """Queries that nobody has answered, `room` at most; none comes before `seconds` have passed."""
        self._ease(room)
        fresh = []
        for message in self._consumer.consume(max(1, room), seconds):
            error = message.error()
            if error is not None:
                _judge(error)
                continue
            progress = self._progress.get(_partition(message))
            if progress is not None and progress.take(_offset(message)):
                fresh.append(message)
        return fresh

    def _ease(self, room: int) -> None:
        """Leave partitions alone while there is no room, or while one is too far ahead of an open query."""
        full = {p for p, progress in self._progress.items() if room <= 0 or progress.ahead >= MOST_AHEAD}
        if pausing := full - self._paused:
            self._consumer.pause([TopicPartition(self._topic, p) for p in pausing])
        if resuming := self._paused - full:
            self._consumer.resume([TopicPartition(self._topic, p) for p in resuming])
        self._paused = full

    # ---- answers out -------------------------------------------------------------------------------------

    def finish(self, finished: Finished) -> None:
        """An answer is there; it will be part of the next commit. May be called from any thread."""
        self._finished.append(finished)

    @property
    def waiting(self) -> int:
        """Answers that are not committed yet."""
        return len(self._finished)

    def commit(self) -> int:
        """Commit what is finished, in one transaction; returns how many answers.

        Whether a transaction that failed was committed need not be known: the offsets say.
        """
        if self._membership is None or not self._finished:
            return 0
        try:
            if self._producer is None:
                self._reopen()
            batch = self._open_ones([self._finished.popleft() for _ in range(len(self._finished))])
            if batch:
                self._transact(batch)
        except KafkaException as error:
            log.warning("commit_failed", reason=error.args[0].str()[:300])
            self._close_producer()
            time.sleep(RETRY_SECONDS)
            return 0
        return len(batch)

    def _open_ones(self, batch: list[Finished]) -> list[Finished]:
        """Without those whose partition is gone, or that another worker answered."""
        return [
            one
            for one in batch
            if one.partition in self._progress and self._progress[one.partition].is_open(one.offset)
        ]

    def _transact(self, batch: Sequence[Finished]) -> None:
        assert self._producer is not None
        by_partition: dict[int, list[int]] = {}
        for one in batch:
            by_partition.setdefault(one.partition, []).append(one.offset)
        offsets = [
            TopicPartition(self._topic, partition, *self._progress[partition].after(finished))
            for partition, finished in by_partition.items()
        ]
        try:
            self._producer.begin()
            for one in batch:
                for out in one.messages:
                    self._producer.produce(out.topic, out.value, out.key, out.headers, out.partition)
            self._producer.send_offsets(offsets, self._membership)
            self._producer.commit()
        except KafkaException:
            self._finished.extendleft(reversed(batch))
            raise
        for partition, finished in by_partition.items():
            self._progress[partition].finish(finished)

    def _reopen(self) -> None:
        """A new producer; then what is committed is read, for its predecessor may have got through."""
        self._producer = FencedProducer(self._transactional)
        for place in self._committed(list(self._progress)):
            known = Progress(max(place.offset, 0), place.metadata)
            answered = [one.offset for one in self._finished if one.partition == place.partition]
            self._progress[place.partition].finish(filter(known.is_done, answered))

    def _close_producer(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def close(self) -> None:
        """Commit what is finished and leave the group."""
        self.commit()
        self._consumer.close()
        self._close_producer()

    # ---- rebalances --------------------------------------------------------------------------------------

    def _committed(self, partitions: Sequence[int]) -> list[TopicPartition]:
        """Offsets and metadata of the group, once no transaction on them is open."""
        if not partitions:
            return []
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        found = self._consumer.committed(asked, timeout=self._stable_seconds)
        if errors := [place.error for place in found if place.error is not None]:
            raise KafkaException(errors[0])
        return found

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._membership = consumer.consumer_group_metadata()
        places = self._committed([place.partition for place in partitions])
        self._progress = {p.partition: Progress(max(p.offset, 0), p.metadata) for p in places}
        self._paused = set()
        consumer.assign(
            [
                TopicPartition(self._topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING)
                for p in places
            ]
        )
        log.info("fleet_assigned", partitions=sorted(self._progress))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {place.partition for place in partitions}
        if gone:
            log.info("fleet_revoked", partitions=sorted(gone))
            self._drain(gone)
            for _ in range(COMMITS_BEFORE_LEAVING):
                self.commit()
                if not self._finished:
                    break
        self._forget(gone)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {place.partition for place in partitions}
        log.warning("fleet_lost", partitions=sorted(gone))
        self._forget(gone)

    def _forget(self, gone: set[int]) -> None:
        self._membership = None
        self._drop(gone)
        self._progress, self._paused = {}, set()
        self._finished.clear()


def _judge(error: KafkaError) -> None:
    """Raise what waiting does not mend."""
    if error.code() in FATAL:
        raise KafkaException(error)
    if error.code() not in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN):
        log.warning("fleet_error", reason=error.str())


def _partition(message: Message) -> int:
    return int(message.partition() or 0)


def _offset(message: Message) -> int:
    offset: Any = message.offset()
    return int(offset)
