"""Forward queries from added partitions to partitions that have a lane, each exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.config.settings import Settings
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.group_offsets import committed_offsets, forward_group
from streams.kafka.offsets import watermarks
from streams.kafka.transactions import FencedProducer
from streams.messages.headers import readable_headers

log = structlog.get_logger(__name__)

BATCH_RECORDS_MAX = 100
POLL_SECONDS = 0.2
LOOK_SECONDS = 5.0
"""Interval at which `follow` looks for more partitions."""

RETRY_SECONDS = 2.0
ATTEMPTS_MAX = 3
"""Failures in a row after which a run that does not follow ends."""

SILENCE_SECONDS = 30.0
"""Time without a record or an end of a partition after which a run that does not follow ends."""


class _OutOfRange(Exception):  # noqa: N818 - handled here
    """The next record to forward was deleted."""


@dataclass
class ForwardResult:
    """Counts of one run.

    Parameters
    ----------
    forwarded : int
        Records.
    deleted : int
        Offsets that were deleted before they were forwarded, transaction markers included.
    without_headers : int
        Records that were forwarded without their headers, because a header's name is not UTF-8.
    partitions : set of int
        Added partitions that were read.
    """

    forwarded: int = 0
    deleted: int = 0
    without_headers: int = 0
    partitions: set[int] = field(default_factory=set)


class PartitionForwarder:
    """Copies records of added partitions of the queries' topic to the partitions of the router.

    Each transaction has records and the offsets of the group `forward_group`. The transactional id is always
    the same, so a second forwarder fences the first.

    Parameters
    ----------
    settings : Settings
    lanes : int
        The router's partitions, by its plan. Partitions from this number on are added ones.
    stop : threading.Event
        Ends a run after the transaction in progress.
    on_commit : callable
        Called with the result so far after each transaction that has records.

    Raises
    ------
    ValueError
        From `run`: another forwarder has begun, or a partition ends before the group's offset.
    KafkaException
        From `run`, unless it follows: the broker failed several times in a row. Another run continues.
    TimeoutError
        From `run`, unless it follows: a partition returns neither records nor its end.
    """

    def __init__(
        self,
        settings: Settings,
        lanes: int,
        stop: threading.Event | None = None,
        on_commit: Callable[[ForwardResult], None] = lambda result: None,
    ) -> None:
        self._settings, self._lanes, self._on_commit = settings, lanes, on_commit
        self._topic = settings.topics.queries
        self._stop = stop or threading.Event()
        self._result = ForwardResult()
        self._producer: FencedProducer | None = None
        self._consumer: Consumer | None = None
        self._committed: dict[int, int] = {}
        self._at_end: set[int] = set()
        self._failures = 0

    def run(self, follow: bool = False) -> ForwardResult:
        """Forward what lies on the added partitions; if `follow`, continue until stopped."""
        while True:
            try:
                self._open()
                self._forward_all(follow)
                return self._result
            except _OutOfRange:
                pass  # opening again finds where the log starts, and reports it
            except KafkaException as error:
                reason = error.args[0]
                if reason.code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
                    raise ValueError(
                        "topics forward: another run has begun, and continues from here"
                    ) from None
                self._failures += 1
                log.warning("forward_failed", topic=self._topic, reason=reason.str(), attempt=self._failures)
                if not follow and self._failures >= ATTEMPTS_MAX:
                    raise
                if self._stop.wait(RETRY_SECONDS):
                    return self._result
            finally:
                self._close()

    def _open(self) -> None:
        """Fence a former forwarder, then read its offsets: it can commit nothing after that."""
        # a record may have been allowed only because its batch was compressed
        config = transactional_config(self._settings, "forward") | {"compression.type": "zstd"}
        self._producer = FencedProducer(config)
        group = forward_group(self._settings.app_id)
        # no silent reset: a position that is out of range means that records were deleted
        self._consumer = Consumer(reader_config(self._settings, group) | {"auto.offset.reset": "error"})
        self._committed, self._at_end = {}, set()
        self._assign_added()

    def _close(self) -> None:
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.close()
        if self._consumer is not None:
            self._consumer.close()
        self._producer = self._consumer = None

    def _assign_added(self) -> None:
        """Read added partitions that are not read yet from the group's offsets on."""
        assert self._consumer is not None
        details = self._consumer.list_topics(timeout=10).topics.get(self._topic)
        if details is None:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"{self._topic} is missing"))
        added = [n for n in sorted(details.partitions) if n >= self._lanes and n not in self._committed]
        if not added:
            return
        places = [TopicPartition(self._topic, number) for number in added]
        known = committed_offsets(self._consumer, places)
        starts = [TopicPartition(self._topic, n, self._start(n, known.get(n))) for n in added]
        self._consumer.incremental_assign(starts)
        self._committed |= {number: known.get(number, -1) for number in added}
        self._result.partitions |= set(added)

    def _start(self, number: int, committed: int | None) -> int:
        """Return the offset at which to continue, and count what was deleted before it."""
        assert self._consumer is not None
        first, end = watermarks(self._consumer, TopicPartition(self._topic, number))
        position = committed or 0
        if position > end:
            raise ValueError(
                f"topics forward: {self._topic}[{number}] was forwarded up to offset {position} but ends at "
                f"{end}; the topic was created again or has lost records. If nothing in it was forwarded, "
                f"delete the offsets of the group {forward_group(self._settings.app_id)} and run this again"
            )
        if (deleted := first - position) > 0:
            self._result.deleted += deleted
            log.error("queries_deleted", topic=self._topic, partition=number, offsets=deleted, first=position)
        return max(position, first)

    def _forward_all(self, follow: bool) -> None:
        assert self._consumer is not None
        looked = heard = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if follow and now - looked > LOOK_SECONDS:
                looked = now
                self._assign_added()
            if not follow and self._at_end >= self._committed.keys():
                return
            # after a failure one at a time: a record that the broker refuses does not hold others back
            messages = self._consumer.consume(1 if self._failures else BATCH_RECORDS_MAX, POLL_SECONDS)
            records, positions = self._sort(messages)
            if messages:
                heard = now
            elif not follow and now - heard > SILENCE_SECONDS:
                raise TimeoutError(
                    f"{self._topic}: no record and no end of a partition for {SILENCE_SECONDS:.0f} s"
                )
            if any(offset > self._committed[number] for number, offset in positions.items()):
                self._transact(records, positions)

    def _sort(self, messages: list[Message]) -> tuple[list[Message], dict[int, int]]:
        """Split messages into records and the positions after them."""
        records, positions = [], {}
        for message in messages:
            error, number, offset = message.error(), message.partition() or 0, message.offset() or 0
            if error is None:
                records.append(message)
                positions[number] = offset + 1
                self._at_end.discard(number)
            elif error.code() == KafkaError._PARTITION_EOF:
                # past the markers of transactions, so that nothing seems to be left
                positions[number] = max(offset, self._committed.get(number, 0))
                self._at_end.add(number)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise _OutOfRange
            elif not (error.retriable() or error.code() < 0):
                raise KafkaException(error)
        return records, positions

    def _transact(self, records: list[Message], positions: dict[int, int]) -> None:
        assert self._producer is not None
        assert self._consumer is not None
        self._producer.begin()
        without_headers = 0
        for record in records:
            headers = readable_headers(record)
            if headers is None:
                without_headers += 1
                log.warning(
                    "headers_not_forwarded",
                    topic=self._topic,
                    partition=record.partition(),
                    offset=record.offset(),
                    reason="the name of a header is not UTF-8",
                )
            lane = (record.partition() or 0) % self._lanes
            self._producer.produce(self._topic, record.value(), record.key(), headers, lane)
        offsets = [TopicPartition(self._topic, number, offset) for number, offset in positions.items()]
        self._producer.send_offsets(offsets, self._consumer.consumer_group_metadata())
        self._producer.commit()
        self._committed |= positions
        self._failures = 0
        self._result.forwarded += len(records)
        self._result.without_headers += without_headers
        if records:
            self._on_commit(self._result)
