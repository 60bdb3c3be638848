"""Following a topic from its beginning in a thread of its own: how every worker knows plans and ledgers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from streams.leaders import watermarks
from streams.troubles import Trouble

log = structlog.get_logger(__name__)

FOLLOW_WAIT_MS = 200
"""Longest wait of the broker when there is nothing new; what is new is answered at once. Empty answers to the
half a dozen followers of each worker are what a broker has most of while nothing happens."""


def consume_soon(consumer: Consumer, most: int, seconds: float) -> list[Message]:
    """What there is as soon as there is something: `Consumer.consume` alone waits until it has `most`.

    Parameters
    ----------
    consumer : Consumer
    most : int
        Messages at most.
    seconds : float
        Longest wait for the first.
    """
    first = consumer.poll(seconds)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


class Follower:
    """Reads every committed message of a topic and goes on as more come.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`.
    topic : str
    partitions : int
    on_message : callable
        Called in the follower's thread for each message.
    tail : int, optional
        Start at most so many offsets before the end instead of at the beginning.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        partitions: int,
        on_message: Callable[[Message], None],
        tail: int | None = None,
    ) -> None:
        self._config = {**config, "fetch.wait.max.ms": FOLLOW_WAIT_MS}
        self._topic, self._partitions = topic, partitions
        self._on_message, self._tail = on_message, tail
        self._trouble = Trouble("follow_error", "follow_goes_on", topic=topic)
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

    def _run(self) -> None:
        try:
            with closing(Consumer(self._config)) as consumer:
                consumer.assign(self._starts(consumer))
                ended: set[int] = set()
                while not self._stop.is_set():
                    for message in consume_soon(consumer, 500, 0.1):
                        error = message.error()
                        if error is None:
                            self._trouble.ended()
                            self._on_message(message)
                        elif error.code() == KafkaError._PARTITION_EOF:
                            self._trouble.ended()
                            ended.add(message.partition() or 0)
                        elif error.code() != KafkaError._ALL_BROKERS_DOWN:
                            self._trouble.happened(reason=error.str())
                    if len(ended) == self._partitions:
                        self.ready.set()
        except Exception as error:
            self.failure = error
            log.exception("follower_died", topic=self._topic)
            self.ready.set()


class TopicReader:
    """What one topic of one partition says, kept up to date by a thread of its own.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`.
    topic : str
    """

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._follower = Follower(config, topic, 1, self._read)

    @property
    def ready(self) -> bool:
        """The topic was read to its end once, so that what is known is what is in force."""
        return self._follower.ready.is_set()

    @property
    def failure(self) -> BaseException | None:
        """What the reader died of."""
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

    def _read(self, message: Message) -> None:
        """Take in a message, in the reader's thread."""
        raise NotImplementedError
