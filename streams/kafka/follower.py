"""Threads that follow a topic from its beginning, as workers do for plans and ledgers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.config.log_throttling import RecurringProblem
from streams.kafka.bounded_clients import Consumer
from streams.kafka.offsets import watermarks
from streams.kafka.reading import PartitionEnds

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
"""Pause after a failed request for the ends of the partitions."""

FOLLOW_WAIT_MS = 200
"""Longest wait of the broker for new messages, which it returns at once.

A short wait would load an idle broker with empty answers to the six or so followers of each worker.
"""


def consume_available(consumer: Consumer, limit: int, seconds: float) -> list[Message]:
    """Return the available messages as soon as there is one.

    `Consumer.consume` alone would wait until it has `limit` messages.

    Parameters
    ----------
    consumer : Consumer
    limit : int
        Maximum number of messages.
    seconds : float
        Longest wait for the first message.
    """
    first = consumer.poll(seconds)
    return [] if first is None else [first, *consumer.consume(limit - 1, 0)]


class Follower:
    """A thread that reads every committed message of a topic, and continues as more arrive.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    topic : str
    partitions : int
    on_message : callable
        Called in the follower's thread for each message.
    tail : int, optional
        Start at most this many offsets before the end instead of at the beginning.
    on_ready : callable, optional
        Called in the follower's thread once every partition was read to its end, before `ready` is set.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        partitions: int,
        on_message: Callable[[Message], None],
        tail: int | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = {**config, "fetch.wait.max.ms": FOLLOW_WAIT_MS}
        self._topic, self._partitions = topic, partitions
        self._on_message, self._tail, self._on_ready = on_message, tail, on_ready
        self._trouble = RecurringProblem("follow_error", "follow_goes_on", topic=topic)
        self._stop = threading.Event()
        self.ready = threading.Event()
        """Set once every partition was read to its end."""
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"follow-{topic}", daemon=True)

    def start(self) -> Follower:
        """Start reading."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop, and wait for the thread to end."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def _starts(self, consumer: Consumer) -> list[TopicPartition]:
        starts = []
        for partition in range(self._partitions):
            start = 0
            if self._tail is not None:
                low, high = watermarks(consumer, TopicPartition(self._topic, partition))
                start = max(low, high - self._tail)
            starts.append(TopicPartition(self._topic, partition, start))
        return starts

    def _assign(self, consumer: Consumer) -> PartitionEnds:
        """Assign the partitions once the broker has reported their ends, and return these."""
        while True:
            try:
                starts = self._starts(consumer)
                ends = PartitionEnds(consumer, starts)
            except KafkaException as error:
                self._trouble.occurred(reason=str(error))
                if self._stop.wait(RETRY_SECONDS):
                    return PartitionEnds(consumer, ())
                continue
            consumer.assign(starts)
            return ends

    def _run(self) -> None:
        try:
            with closing(Consumer(self._config)) as consumer:
                ends = self._assign(consumer)
                while not self._stop.is_set():
                    for message in consume_available(consumer, 500, 0.1):
                        error = message.error()
                        if error is None:
                            self._trouble.resolved()
                            self._on_message(message)
                        elif error.code() == KafkaError._PARTITION_EOF:
                            self._trouble.resolved()
                            ends.record_end(message)
                        elif error.code() != KafkaError._ALL_BROKERS_DOWN:
                            self._trouble.occurred(reason=error.str())
                    if not ends.remaining and not self.ready.is_set():
                        self._on_ready()
                        self.ready.set()
        except Exception as error:
            self.failure = error
            log.exception("follower_died", topic=self._topic)
            self.ready.set()


class TopicReader:
    """State of a topic with one partition, kept up to date by a thread of its own.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    topic : str
    """

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._follower = Follower(config, topic, 1, self._read, on_ready=self._caught_up)

    @property
    def ready(self) -> bool:
        """The topic was read to its end once, so that what is known is what is in force."""
        return self._follower.ready.is_set()

    @property
    def failure(self) -> BaseException | None:
        """Error that ended the reader; None while it runs."""
        return self._follower.failure

    def wait(self, seconds: float) -> bool:
        """Wait until `ready`."""
        return self._follower.ready.wait(seconds)

    def start(self) -> None:
        """Start following."""
        self._follower.start()

    def stop(self) -> None:
        """Stop following."""
        self._follower.stop()

    def _caught_up(self) -> None:
        """Report the newest value, in the reader's thread; former ones were only read."""

    def _read(self, message: Message) -> None:
        """Take in a message, in the reader's thread."""
        raise NotImplementedError
