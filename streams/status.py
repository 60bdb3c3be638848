"""The status topic: what workers tell of themselves, past plans, and the timeline. Compacted; never needed to
route, and what is lost of it comes again.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson
import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from routing.plan import Plan
from streams.following import TopicReader
from streams.kafka import producer_config, reader_config
from streams.settings import Settings
from streams.timeline import Timeline

log = structlog.get_logger(__name__)

PLANS_KEPT = 200
BEAT_SECONDS = 5.0
SILENT_SECONDS = 4 * BEAT_SECONDS
"""After which a worker that has not said goodbye is taken for dead."""

FORGOTTEN_SECONDS = 3600.0


def plan_key(version: int) -> str:
    """Where a plan of this version is kept, in place of one that is `PLANS_KEPT` versions older."""
    return f"plan.{version % PLANS_KEPT}"


def plan_summary(plan: Plan) -> dict[str, Any]:
    """What people want to know of a past plan."""
    return {
        "period": plan.period,
        "version": plan.version,
        "learned": plan.learned,
        "at": plan.created_at,
        "models": list(plan.models),
        "prices": plan.prices.tolist(),
        "solved_from": {k: v for k, v in plan.solved_from.items() if isinstance(v, int | float | str)},
    }


class StatusWriter:
    """Writes status messages; a broker that refuses them is told once in the log, and nothing else happens.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topics.status
        self._producer = Producer(producer_config(settings) | {"queue.buffering.max.messages": 10_000})
        self._told: int | None = None

    def put(self, key: str, value: dict[str, Any] | None) -> None:
        """Write one message; None deletes what is under the key."""
        body = None if value is None else orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            self._producer.produce(self._topic, body, key, partition=0, on_delivery=self._delivered)
            self._producer.poll(0)
        except (BufferError, KafkaException) as error:
            log.debug("status_not_written", reason=str(error))

    def close(self) -> None:
        """Wait a moment for what is on its way."""
        self._producer.flush(2.0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        code = None if error is None else error.code()
        if error is not None and code != self._told:
            log.warning("status_not_written", topic=self._topic, reason=error.str())
        self._told = code


class StatusReader(TopicReader):
    """Follows the status topic.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(reader_config(settings), settings.topics.status)
        self.timeline = Timeline()
        self._workers: dict[str, dict[str, Any]] = {}
        self._plans: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def workers(self) -> list[dict[str, Any]]:
        """What each worker said last, the longest running first; `silent` marks those that may be dead."""
        now = time.time()
        with self._lock:
            found = [
                {**worker, "silent": now - worker["at"] > SILENT_SECONDS}
                for worker in self._workers.values()
                if now - worker["at"] < FORGOTTEN_SECONDS
            ]
        return sorted(found, key=lambda worker: worker["started_at"])

    def forgotten(self) -> list[str]:
        """Workers that were not heard of for so long that their last word may be deleted."""
        now = time.time()
        with self._lock:
            return [name for name, worker in self._workers.items() if now - worker["at"] > FORGOTTEN_SECONDS]

    def plans(self) -> list[dict[str, Any]]:
        """Past plans, oldest first, one a version."""
        with self._lock:
            return [self._plans[version] for version in sorted(self._plans)]

    def _read(self, message: Message) -> None:
        kind, _, name = (message.key() or b"").decode("utf-8", "replace").partition(".")
        try:
            value = None if message.value() is None else orjson.loads(message.value() or b"")
        except orjson.JSONDecodeError:
            log.warning("status_not_read", offset=message.offset())
            return
        with self._lock:
            if kind == "point":
                self.timeline.put(name, value)
            elif kind == "worker":
                self._workers.pop(name, None)
                if value is not None:
                    self._workers[name] = value
            elif kind == "plan" and value is not None:
                self._plans = {v: p for v, p in self._plans.items() if v > value["version"] - PLANS_KEPT}
                self._plans[value["version"]] = value
