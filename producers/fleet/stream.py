"""A fleet's Kafka client: consume routed queries in a group, commit answers with the group's offsets."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka
import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from producers.fleet.messages import Headers
from producers.fleet.progress import MAX_OFFSETS_AHEAD, OffsetProgress
from streams.config.settings import Settings
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.transactions import FencedProducer

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
COMMITS_BEFORE_LEAVING = 3
"""Attempts to commit before a partition is released. Uncommitted answers are asked and paid for again."""
STABLE_SECONDS = 30.0
"""Time, beyond the transaction timeout, to read a committed offset while another worker's commit is open."""
ASSIGN_SECONDS = 200.0
"""Time that a new assignment waits for an unavailable broker; after 300 s the group excludes this member."""
COLLECT_SECONDS = 0.05
"""Maximum wait for queries after another one."""
IDLE_SECONDS = 1.0
"""Idle time before a position beyond the last answer is committed."""

FATAL = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


@dataclass(frozen=True)
class Outgoing:
    """A message to produce when an answer is committed."""

    topic: str
    value: bytes | None
    key: bytes | None
    headers: Headers
    partition: int = -1


@dataclass(frozen=True)
class Finished:
    """A finished query: its position, and the messages to produce."""

    partition: int
    offset: int
    messages: tuple[Outgoing, ...]


class FleetStream:
    """Reads an LLM's topic and commits answers, outcomes and offsets together.

    All methods but `finish` must be called by one thread at a time. Rebalances happen within `poll`.

    Parameters
    ----------
    settings : Settings
    topic : str
        Topic of the LLM.
    group : str
        Consumer group of all workers of the fleet.
    name : str
        Unique name of this worker, for its transactions.
    drain : callable
        Called with revoked partitions; waits a limited time for their answers.
    drop : callable
        Called with lost partitions, whose queries must no longer be answered here.

    Raises
    ------
    KafkaException
        From any method: the topic does not exist, access is denied, or the broker stays unavailable.
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
        self._progress: dict[int, OffsetProgress] = {}
        self._paused: set[int] = set()
        self._membership: object | None = None
        self._ends_reached: set[int] = set()
        """Partitions without a query beyond the position."""
        self._finished: deque[Finished] = deque()
        self._committed_to: dict[int, int] = {}
        self._changed_at = time.monotonic()
        config = reader_config(settings, group) | {
            # eager rebalancing: a commit under an older membership is rejected
            "partition.assignment.strategy": "range",
            "session.timeout.ms": int(settings.session_timeout_seconds * 1000),
        }
        self._consumer = Consumer(config)
        self._consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    # ---- queries in --------------------------------------------------------------------------------------

    def poll(self, limit: int, seconds: float) -> list[Message]:
        """Wait up to `seconds` for a query; collect those that follow it at once, at most `limit`.

        Parameters
        ----------
        limit : int
            Maximum queries; with 0 none is read, but the group's rebalances go on.
        seconds : float
            Maximum time. With a query or the end of a partition it is `COLLECT_SECONDS` at most from then on.

        Returns
        -------
        list of Message
            Queries that are neither answered nor in flight.
        """
        self._apply_backpressure(limit)
        fresh: list[Message] = []
        deadline = time.monotonic() + seconds
        for _ in range(max(1, limit)):
            progresses = self._progress
            # one event a call: among several, a rebalance would be at an unknown place
            message = self._consumer.poll(max(0.0, deadline - time.monotonic()))
            if progresses is not self._progress:
                # they are read again by the partition's new owner
                fresh.clear()
            if message is None:
                break
            if self._is_query(message):
                fresh.append(message)
            deadline = min(deadline, time.monotonic() + COLLECT_SECONDS)
        return fresh

    def _is_query(self, message: Message) -> bool:
        """Record an event; return whether it is a query to answer.

        Raises
        ------
        KafkaException
            The event is a permanent error.
        """
        error, partition, offset = message.error(), _partition(message), _offset(message)
        progress = self._progress.get(partition)
        if error is None:
            self._ends_reached.discard(partition)
            return progress is not None and progress.start(offset)
        if error.code() == KafkaError._PARTITION_EOF and progress is not None:
            progress.reach(offset)
            self._ends_reached.add(partition)
            self._changed_at = time.monotonic()
        _check_error(error)
        return False

    def _apply_backpressure(self, limit: int) -> None:
        """Pause all partitions if `limit` is 0, and any that is too far ahead of an unanswered query."""
        full = {
            p for p, progress in self._progress.items() if limit <= 0 or progress.ahead >= MAX_OFFSETS_AHEAD
        }
        if pausing := full - self._paused:
            self._consumer.pause([TopicPartition(self._topic, p) for p in pausing])
        if resuming := self._paused - full:
            self._consumer.resume([TopicPartition(self._topic, p) for p in resuming])
        self._paused = full

    # ---- answers out -------------------------------------------------------------------------------------

    def finish(self, finished: Finished) -> None:
        """Add an answer to the next commit. Thread-safe."""
        self._finished.append(finished)

    @property
    def waiting(self) -> int:
        """Number of answers that are not committed yet."""
        return len(self._finished)

    @property
    def uncommitted(self) -> list[tuple[int, int]]:
        """Partition and offset of each query whose answer is not committed."""
        return [(one.partition, one.offset) for one in list(self._finished)]

    @property
    def at_end(self) -> bool:
        """True if every assigned partition was read to its end, and all its queries are committed."""
        idle = all(progress.idle for progress in self._progress.values())
        return self._membership is not None and idle and self._ends_reached >= self._progress.keys()

    @property
    def partitions(self) -> int | None:
        """Number of assigned partitions; None while the worker is not a member of the group."""
        return None if self._membership is None else len(self._progress)

    @property
    def commit_due(self) -> bool:
        """True if answers are uncommitted, or the worker is idle and its offsets are behind the position.

        Transaction markers have offsets but are not messages. Without a commit after them, the group's lag
        would never reach 0.
        """
        idle = time.monotonic() - self._changed_at >= IDLE_SECONDS
        return bool(self._finished or (idle and self._uncommitted_partitions()))

    def _uncommitted_partitions(self) -> list[int]:
        """Return the partitions without open queries whose position is not committed."""
        return [
            partition
            for partition, progress in self._progress.items()
            if progress.idle and progress.position > self._committed_to.get(partition, 0)
        ]

    def commit(self) -> bool:
        """Commit all finished answers in one transaction; return whether there was one.

        If a commit fails, the committed offsets show later whether it took effect.
        """
        if self._membership is None or not self.commit_due:
            return False
        try:
            if self._producer is None:
                self._reopen()
            batch = self._still_owned([self._finished.popleft() for _ in range(len(self._finished))])
            if not (batch or self._uncommitted_partitions()):
                return False
            self._transact(batch)
        except KafkaException as error:
            log.warning("commit_failed", reason=error.args[0].str()[:300])
            self._close_producer()
            time.sleep(RETRY_SECONDS)
            return False
        return True

    def _still_owned(self, batch: list[Finished]) -> list[Finished]:
        """Return the answers whose partition is assigned and that no other worker has answered."""
        return [
            one
            for one in batch
            if one.partition in self._progress and self._progress[one.partition].is_open(one.offset)
        ]

    def _transact(self, batch: Sequence[Finished]) -> None:
        assert self._producer is not None
        by_partition: dict[int, list[int]] = {partition: [] for partition in self._uncommitted_partitions()}
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
        self._committed_to |= {place.partition: place.offset for place in offsets}
        self._changed_at = time.monotonic()

    def _reopen(self) -> None:
        """Create a producer, then read the committed offsets: the previous commit may have taken effect."""
        self._producer = FencedProducer(self._transactional)
        for place in self._committed(list(self._progress)):
            saved = OffsetProgress(max(place.offset, 0), place.metadata)
            self._committed_to[place.partition] = max(place.offset, 0)
            answered = [one.offset for one in self._finished if one.partition == place.partition]
            self._progress[place.partition].finish(filter(saved.is_done, answered))

    def _close_producer(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def close(self) -> None:
        """Commit finished answers and leave the group."""
        self.commit()
        self._consumer.close()
        self._close_producer()

    # ---- rebalances --------------------------------------------------------------------------------------

    def _committed(self, partitions: Sequence[int]) -> list[TopicPartition]:
        """Return the group's offsets and metadata as soon as no transaction on them is open."""
        if not partitions:
            return []
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        committed = self._consumer.committed(places, timeout=self._stable_seconds)
        if errors := [place.error for place in committed if place.error is not None]:
            raise KafkaException(errors[0])
        return committed

    def _committed_with_retries(self, partitions: Sequence[int]) -> list[TopicPartition]:
        """Return the same, and retry while the broker is unavailable: an error would end the worker."""
        deadline = time.monotonic() + ASSIGN_SECONDS
        while True:
            try:
                return self._committed(partitions)
            except KafkaException as error:
                if error.args[0].code() in FATAL or time.monotonic() > deadline:
                    raise
                log.warning("offsets_not_read", reason=error.args[0].str()[:300])
                time.sleep(RETRY_SECONDS)

    def _assigned(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        self._membership = consumer.consumer_group_metadata()
        places = self._committed_with_retries([place.partition for place in partitions])
        self._committed_to = {p.partition: max(p.offset, 0) for p in places}
        self._progress = {p.partition: OffsetProgress(max(p.offset, 0), p.metadata) for p in places}
        self._paused, self._ends_reached = set(), set()
        consumer.assign(
            [
                TopicPartition(self._topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING)
                for p in places
            ]
        )
        log.info("fleet_assigned", partitions=sorted(self._progress))

    def _revoked(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        numbers = {place.partition for place in partitions}
        if numbers:
            log.info("fleet_revoked", partitions=sorted(numbers))
            self._drain(numbers)
            for _ in range(COMMITS_BEFORE_LEAVING):
                self.commit()
                if not self._finished:
                    break
        self._forget(numbers)

    def _lost(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        numbers = {place.partition for place in partitions}
        log.warning("fleet_lost", partitions=sorted(numbers))
        self._forget(numbers)

    def _forget(self, partitions: set[int]) -> None:
        self._membership = None
        self._drop(partitions)
        self._progress, self._paused = {}, set()
        self._finished.clear()


def _check_error(error: KafkaError) -> None:
    """Raise a permanent error, log others."""
    if error.code() in FATAL:
        raise KafkaException(error)
    if error.code() not in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN):
        log.warning("fleet_error", reason=error.str())


def _partition(message: Message) -> int:
    return int(message.partition() or 0)


def _offset(message: Message) -> int:
    offset: Any = message.offset()
    return int(offset)
