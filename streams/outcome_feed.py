"""Outcomes for the lanes that this worker owns, each from the offset where its ledger stopped.

Not a Faust agent: which outcomes a lane may take in is decided by its ledger and its fence, not by the group.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from streams.following import FOLLOW_WAIT_MS, consume_soon
from streams.troubles import Trouble

log = structlog.get_logger(__name__)

ROOM = 5000
"""Outcomes that wait in a lane before its partition is paused."""


class OutcomeFeed:
    """One consumer for the outcomes of all lanes of a worker.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`.
    topic : str
    on_arrival : callable
        Told the lane's number when outcomes came, in the feed's thread.
    """

    def __init__(self, config: Mapping[str, Any], topic: str, on_arrival: Callable[[int], None]) -> None:
        self._config = {**config, "fetch.wait.max.ms": FOLLOW_WAIT_MS}
        self._topic, self._on_arrival = topic, on_arrival
        self._orders: queue.SimpleQueue[tuple[int, int, deque[Message] | None]] = queue.SimpleQueue()
        self._inboxes: dict[int, deque[Message]] = {}
        self._paused: set[int] = set()
        self._stop = threading.Event()
        self._trouble = Trouble("outcomes_error", "outcomes_go_on")
        self.failure: BaseException | None = None
        """What its thread died of: no outcome is settled any more."""
        self._thread = threading.Thread(target=self._guarded, name="outcomes", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the thread to end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def watch(self, lane: int, offset: int, inbox: deque[Message]) -> None:
        """Put a lane's outcomes from this offset on into its inbox."""
        self._orders.put((lane, offset, inbox))

    def unwatch(self, lane: int) -> None:
        """Leave a lane's outcomes alone."""
        self._orders.put((lane, 0, None))

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.failure = error
            log.exception("outcome_feed_died")

    def _run(self) -> None:
        with closing(Consumer(self._config)) as consumer:
            while not self._stop.is_set():
                self._obey(consumer)
                self._ease(consumer)
                if not self._inboxes:
                    self._stop.wait(0.05)
                    continue
                arrived = set()
                for message in consume_soon(consumer, 500, 0.05):
                    error = message.error()
                    lane = message.partition()
                    if error is None and lane in self._inboxes:
                        self._trouble.ended()
                        self._inboxes[lane].append(message)
                        arrived.add(lane)
                    elif error is not None and error.code() not in (
                        KafkaError._PARTITION_EOF,
                        KafkaError._ALL_BROKERS_DOWN,
                    ):
                        self._trouble.happened(reason=error.str())
                for lane in arrived:
                    self._on_arrival(lane)

    def _obey(self, consumer: Consumer) -> None:
        while not self._orders.empty():
            lane, offset, inbox = self._orders.get()
            if self._inboxes.pop(lane, None) is not None:
                consumer.incremental_unassign([TopicPartition(self._topic, lane)])
                self._paused.discard(lane)
            if inbox is not None:
                consumer.incremental_assign([TopicPartition(self._topic, lane, offset)])
                self._inboxes[lane] = inbox

    def _ease(self, consumer: Consumer) -> None:
        for lane, inbox in self._inboxes.items():
            if len(inbox) > ROOM and lane not in self._paused:
                consumer.pause([TopicPartition(self._topic, lane)])
                self._paused.add(lane)
            elif len(inbox) < ROOM // 2 and lane in self._paused:
                consumer.resume([TopicPartition(self._topic, lane)])
                self._paused.discard(lane)
