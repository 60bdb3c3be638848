"""Produce queries at a given or unlimited rate, and record every delivery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import orjson
from confluent_kafka import KafkaError, Message
from numpy.typing import NDArray

from producers.session_partition import session_partition
from streams.config.settings import Settings
from streams.kafka.bounded_clients import Producer
from streams.kafka.clients import producer_config
from streams.messages.query import encode_embedding

FLUSH_SECONDS = 60.0
TICK_SECONDS = 0.2


class QueryProducer:
    """Sends queries; its counters may be read from another thread while `run` runs.

    Parameters
    ----------
    settings : Settings
    partitions : int
        Partitions of the topic of queries; used in turn, so that a replay is reproducible. Queries of a
        session have one partition.
    rate : float, optional
        Queries per second, above 0; by default unlimited.
    """

    def __init__(self, settings: Settings, partitions: int, rate: float | None = None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"rate: {rate} must be above 0 queries per second, or None")
        self._topic, self._partitions, self._rate = settings.topics.queries, partitions, rate
        self._producer = Producer(producer_config(settings) | {"linger.ms": 5})
        self.sent = 0
        self.delivered = 0
        self.errors: list[str] = []
        self.seconds = 0.0
        self.produced_at: dict[str, float] = {}
        """Time of production by query id, in seconds since 1970."""
        self.positions: dict[tuple[int, int], str] = {}
        """Query id by partition and offset."""

    def run(self, queries: Iterable[tuple[str, bytes]], tick: Callable[[], None] = lambda: None) -> None:
        """Send all queries; return when each is delivered or has failed.

        Parameters
        ----------
        queries : iterable of (id, value)
        tick : callable
            Called regularly, to show progress.
        """
        started, last_tick = time.monotonic(), 0.0
        for number, (identity, value) in enumerate(queries):
            if self._rate is not None:
                self._wait_until(started + number / self._rate)
            of_session = session_partition(value, self._partitions)
            self._send(identity, value, number % self._partitions if of_session is None else of_session)
            self.sent += 1
            if number % 64 == 0 or self._rate is not None:
                self._producer.poll(0)
                now = time.monotonic()
                if now - last_tick > TICK_SECONDS:
                    self.seconds, last_tick = now - started, now
                    tick()
        undelivered = self._producer.flush(FLUSH_SECONDS)
        self.seconds = time.monotonic() - started
        self.errors += ["not delivered in time"] * undelivered

    def _wait_until(self, moment: float) -> None:
        while (pause := moment - time.monotonic()) > 0:
            # poll instead of sleeping, to receive delivery reports
            self._producer.poll(min(pause, 0.1)) if pause > 0.002 else time.sleep(pause)

    def _send(self, identity: str, value: bytes, partition: int) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.errors.append(error.str())
                return
            self.delivered += 1
            self.positions[(message.partition() or 0, message.offset() or 0)] = identity

        self.produced_at[identity] = time.time()
        while True:
            try:
                self._producer.produce(self._topic, value, partition=partition, on_delivery=delivered)
                return
            except BufferError:
                self._producer.poll(0.05)
                self.produced_at[identity] = time.time()


def encode_query(
    identity: str,
    prompt: str,
    embedding: NDArray[np.float32] | None = None,
    max_tokens: int | None = None,
    metadata: dict[str, Any] | None = None,
) -> bytes:
    """Return a query's message (see `streams.messages.query`)."""
    fields: dict[str, Any] = {"id": identity, "prompt": prompt}
    if embedding is not None:
        fields["embedding"] = encode_embedding(embedding)
    if max_tokens is not None:
        fields["max_tokens"] = max_tokens
    if metadata:
        fields["metadata"] = metadata
    return orjson.dumps(fields)
