"""Delivery of queries to Kafka from an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from producers.gateway.api_errors import SERVER_ERROR, ApiError
from streams.config.settings import Settings
from streams.kafka.bounded_clients import Producer
from streams.kafka.clients import producer_config
from streams.messages.headers import Headers

POLL_SECONDS = 0.1
FLUSH_SECONDS = 10.0

Position = tuple[int, int]
"""Partition and offset."""


class QuerySender:
    """A producer whose deliveries are awaited. A thread of its own receives the acknowledgements.

    Parameters
    ----------
    settings : Settings
    delivery_seconds : float
        Time limit of a delivery.
    """

    def __init__(self, settings: Settings, delivery_seconds: float) -> None:
        limit = int(delivery_seconds * 1000)
        self._producer = Producer(
            producer_config(settings) | {"linger.ms": 2, "delivery.timeout.ms": limit, "acks": "all"}
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="query-sender", daemon=True)
        self._thread.start()

    async def send(
        self, topic: str, key: str, value: bytes, headers: Headers | None = None, partition: int = -1
    ) -> Position:
        """Produce a message, and return its partition and offset once the brokers have it.

        Raises
        ------
        ApiError
            Status 503: it was not delivered in time, or too many messages wait.
        """
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"headers": headers} if headers else {}
        future: asyncio.Future[Position] = loop.create_future()
        try:
            self._producer.produce(
                topic, value, key.encode(), partition, on_delivery=_report_to(loop, future), **options
            )
        except (BufferError, KafkaException) as error:
            raise _undelivered(str(error)) from None
        return await future

    def stop(self) -> None:
        """Wait for acknowledgements, and stop."""
        self._producer.flush(FLUSH_SECONDS)
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(POLL_SECONDS)


def _report_to(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Position]
) -> Callable[[KafkaError | None, Message], None]:
    def finish(error: KafkaError | None, position: Position) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(position)
        else:
            future.set_exception(_undelivered(error.str()))

    def delivered(error: KafkaError | None, message: Message) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, error, (message.partition() or 0, message.offset() or 0))

    return delivered


def _undelivered(reason: str) -> ApiError:
    return ApiError(
        503,
        f"The request was not delivered to Kafka ({reason}).",
        SERVER_ERROR,
        code="broker_unavailable",
        headers={"Retry-After": "2"},
    )
