"""Puts queries on the stream: at a rate or as fast as it goes, with every delivery accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import orjson
from confluent_kafka import KafkaError, Message, Producer
from numpy.typing import NDArray

from streams.kafka import producer_config
from streams.messages import encode_embedding
from streams.settings import Settings

FLUSH_SECONDS = 60.0


class Load:
    """Queries on their way; the numbers may be read from another thread while `run` runs.

    Parameters
    ----------
    settings : Settings
    partitions : int
        Of the topic of queries; they take turns, so that a replay goes the same way every time.
    rate : float, optional
        Queries a second, above 0; none: as fast as they are taken.
    """

    def __init__(self, settings: Settings, partitions: int, rate: float | None = None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"rate: {rate} must be more than 0 queries a second, or none")
        self._topic, self._partitions, self._rate = settings.topics.queries, partitions, rate
        self._producer = Producer(producer_config(settings) | {"linger.ms": 5})
        self.sent = 0
        self.delivered = 0
        self.errors: list[str] = []
        self.seconds = 0.0
        self.produced_at: dict[str, float] = {}
        """By id: seconds since 1970."""
        self.places: dict[tuple[int, int], str] = {}
        """By partition and offset: the id."""

    def run(self, queries: Iterable[tuple[str, bytes]], tick: Callable[[], None] = lambda: None) -> None:
        """Sends all; returns when each is delivered or has failed.

        Parameters
        ----------
        queries : iterable of (id, value)
        tick : callable
            Called now and then, to show progress.
        """
        began, last = time.monotonic(), 0.0
        for number, (identity, value) in enumerate(queries):
            if self._rate is not None:
                self._wait_until(began + number / self._rate)
            self._send(identity, value, number % self._partitions)
            self.sent += 1
            if number % 64 == 0 or self._rate is not None:
                self._producer.poll(0)
                now = time.monotonic()
                if now - last > 0.2:
                    self.seconds, last = now - began, now
                    tick()
        left = self._producer.flush(FLUSH_SECONDS)
        self.seconds = time.monotonic() - began
        self.errors += ["not delivered in time"] * left

    def _wait_until(self, moment: float) -> None:
        while (pause := moment - time.monotonic()) > 0:
            # poll, not sleep: deliveries are told while there is nothing to send
            self._producer.poll(min(pause, 0.1)) if pause > 0.002 else time.sleep(pause)

    def _send(self, identity: str, value: bytes, partition: int) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.errors.append(error.str())
                return
            self.delivered += 1
            self.places[(message.partition() or 0, message.offset() or 0)] = identity

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
    """A query as the router reads it (see `streams.messages`)."""
    fields: dict[str, Any] = {"id": identity, "prompt": prompt}
    if embedding is not None:
        fields["embedding"] = encode_embedding(embedding)
    if max_tokens is not None:
        fields["max_tokens"] = max_tokens
    if metadata:
        fields["metadata"] = metadata
    return orjson.dumps(fields)
