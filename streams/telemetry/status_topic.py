"""The status topic: heartbeats of workers and the timeline.

The topic is compacted. Routing does not depend on it, and lost records are written again.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson
import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from streams.config.settings import Settings
from streams.kafka.bounded_clients import Producer
from streams.kafka.clients import reader_config
from streams.kafka.follower import TopicReader
from streams.messages.rejection import RejectedMessage
from streams.messages.status import STATUS_DECODERS
from streams.telemetry.timeline import Timeline

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 5.0
SILENT_SECONDS = 4 * HEARTBEAT_SECONDS
"""Time without a heartbeat after which a worker counts as dead, unless it published its departure."""

FORGOTTEN_SECONDS = 3600.0
"""Time without a heartbeat after which a worker is deleted from the topic."""


class StatusWriter:
    """Writes status messages. It logs an error of the broker once, and drops the message.

    Parameters
    ----------
    producer : Producer
    topic : str
        The status topic.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._logged_code: int | None = None

    def put(self, key: str, value: dict[str, Any] | None) -> None:
        """Write one message; None deletes the key."""
        body = None if value is None else orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            self._producer.produce(self._topic, body, key, partition=0, on_delivery=self._delivered)
            self._producer.poll(0)
        except (BufferError, KafkaException) as error:
            log.debug("status_not_written", reason=str(error))

    def close(self) -> None:
        """Wait up to two seconds for delivery."""
        self._producer.flush(2.0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        code = None if error is None else error.code()
        if error is not None and code != self._logged_code:
            log.warning("status_not_written", topic=self._topic, reason=error.str())
        self._logged_code = code


class StatusReader(TopicReader):
    """Follows the status topic, and keeps heartbeats and timeline.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(reader_config(settings), settings.topics.status)
        self.timeline = Timeline()
        self._workers: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def workers(self) -> list[dict[str, Any]]:
        """Return the last heartbeat of each worker, the oldest worker first; `silent` marks dead ones."""
        now = time.time()
        with self._lock:
            workers = [
                {**worker, "silent": now - worker["at"] > SILENT_SECONDS}
                for worker in self._workers.values()
                if now - worker["at"] < FORGOTTEN_SECONDS
            ]
        return sorted(workers, key=lambda worker: worker["started_at"])

    def forgotten(self) -> list[str]:
        """Return the workers whose last heartbeat may be deleted."""
        now = time.time()
        with self._lock:
            return [name for name, worker in self._workers.items() if now - worker["at"] > FORGOTTEN_SECONDS]

    def _read(self, message: Message) -> None:
        kind, _, name = (message.key() or b"").decode("utf-8", "replace").partition(".")
        if kind not in STATUS_DECODERS:
            return
        try:
            value = None if message.value() is None else STATUS_DECODERS[kind](message.value())
        except RejectedMessage as error:
            log.warning("status_not_read", offset=message.offset(), reason=str(error))
            return
        with self._lock:
            if kind == "point":
                self.timeline.put(name, value)
            elif kind == "worker":
                self._workers.pop(name, None)
                if value is not None:
                    self._workers[name] = value
