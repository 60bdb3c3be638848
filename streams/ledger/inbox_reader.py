"""Reads outcomes, or returned queries, for the lanes that this worker owns, from each ledger's position.

It is not a Faust agent: the consumer group does not decide the outcomes that a lane settles. The lane's
ledger and its fence do.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import closing

import structlog
from confluent_kafka import KafkaError, TopicPartition

from streams.config.log_throttling import RecurringProblem
from streams.kafka.bounded_clients import Consumer
from streams.kafka.follower import consume_available
from streams.kafka.offsets import watermarks
from streams.ledger.settlement import Inbox

log = structlog.get_logger(__name__)

MAX_QUEUED_OUTCOMES = 5000
"""Waiting outcomes of a lane at which its partition is paused."""

MAX_QUEUED_RETURNS = 200
"""Waiting returned queries of a lane at which its partition is paused; one may have 4 MiB."""


class InboxReader:
    """One consumer for the outcomes, or the returned queries, of all lanes of a worker.

    Parameters
    ----------
    make_consumer : callable
        Makes the consumer, in the reader's thread.
    topic : str
    on_arrival : callable
        Called with the lane's number when messages arrive, in the reader's thread.
    max_queued : int
        Waiting messages of a lane at which its partition is paused.
    """

    def __init__(
        self,
        make_consumer: Callable[[], Consumer],
        topic: str,
        on_arrival: Callable[[int], None],
        max_queued: int = MAX_QUEUED_OUTCOMES,
    ) -> None:
        self._make_consumer, self._topic, self._on_arrival = make_consumer, topic, on_arrival
        self._max_queued = max_queued
        self._assignments: queue.SimpleQueue[tuple[int, int, Inbox | None]] = queue.SimpleQueue()
        self._inboxes: dict[int, Inbox] = {}
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()
        self._stop = threading.Event()
        self._trouble = RecurringProblem("outcomes_error", "outcomes_go_on")
        self.failure: BaseException | None = None
        """The error that ended the reader's thread, after which no message is handed over."""
        self._thread = threading.Thread(target=self._guarded, name=f"inbox-{topic}", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the thread to end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def add_lane(self, lane: int, offset: int, inbox: Inbox) -> None:
        """Put a lane's messages from this offset on into its inbox."""
        self._assignments.put((lane, offset, inbox))

    def remove_lane(self, lane: int) -> None:
        """Stop reading a lane's messages."""
        self._assignments.put((lane, 0, None))

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.failure = error
            log.exception("outcome_feed_died", topic=self._topic)

    def _run(self) -> None:
        with closing(self._make_consumer()) as consumer:
            while not self._stop.is_set():
                self._apply_assignments(consumer)
                self._apply_backpressure(consumer)
                if not self._inboxes:
                    self._stop.wait(0.05)
                    continue
                arrived = set()
                for message in consume_available(consumer, 500, 0.05):
                    error = message.error()
                    lane = message.partition()
                    if error is None and lane in self._inboxes:
                        self._trouble.resolved()
                        self._inboxes[lane].append(message)
                        self._next[lane] = (message.offset() or 0) + 1
                        arrived.add(lane)
                    elif error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                        if lane in self._inboxes:
                            self._seek_to_log_start(consumer, lane)
                            arrived.add(lane)
                    elif error is not None and error.code() not in (
                        KafkaError._PARTITION_EOF,
                        KafkaError._ALL_BROKERS_DOWN,
                    ):
                        self._trouble.occurred(reason=error.str())
                for lane in arrived:
                    self._on_arrival(lane)

    def _apply_assignments(self, consumer: Consumer) -> None:
        while not self._assignments.empty():
            lane, offset, inbox = self._assignments.get()
            if self._inboxes.pop(lane, None) is not None:
                consumer.incremental_unassign([TopicPartition(self._topic, lane)])
                self._paused.discard(lane)
            if inbox is not None:
                consumer.incremental_assign([TopicPartition(self._topic, lane, offset)])
                self._inboxes[lane], self._next[lane] = inbox, offset

    def _seek_to_log_start(self, consumer: Consumer, lane: int) -> None:
        """Continue at the start of the log; raise if the topic ends earlier, because it was created again."""
        place = TopicPartition(self._topic, lane)
        start, end = watermarks(consumer, place)
        if start < self._next[lane]:
            raise ValueError(
                f"topic {self._topic}: partition {lane} ends at offset {end}, and its ledger continues at "
                f"{self._next[lane]}: the topic was created again or truncated"
            )
        self._inboxes[lane].log_start = self._next[lane] = start
        consumer.incremental_unassign([place])
        consumer.incremental_assign([TopicPartition(self._topic, lane, start)])

    def _apply_backpressure(self, consumer: Consumer) -> None:
        for lane, inbox in self._inboxes.items():
            if len(inbox) > self._max_queued and lane not in self._paused:
                consumer.pause([TopicPartition(self._topic, lane)])
                self._paused.add(lane)
            elif len(inbox) < self._max_queued // 2 and lane in self._paused:
                consumer.resume([TopicPartition(self._topic, lane)])
                self._paused.discard(lane)
