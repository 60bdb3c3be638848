"""The consumer of results: answers, unserved queries and dead letters of the gateways' queries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.config.log_throttling import RecurringProblem
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient, Consumer
from streams.kafka.clients import reader_config
from streams.kafka.follower import consume_available
from streams.kafka.topics import end_offsets, existing_partitions
from streams.messages.headers import headers_of

GATEWAY_HEADER = "port-gateway"
"""Header with the id of the gateway that sent a query. Router and fleets keep it."""

MAX_MESSAGES = 500
POLL_SECONDS = 0.2
NEW_PARTITIONS_SECONDS = 30.0

log = structlog.get_logger(__name__)


class ResultReader:
    """Reads every result from the time of its creation, in a thread of its own.

    Parameters
    ----------
    settings : Settings
    admin : AdminClient
    on_result : callable
        Called in the reader's thread with each result of a query that a gateway sent.

    Raises
    ------
    ValueError
        A topic does not exist.
    """

    def __init__(self, settings: Settings, admin: AdminClient, on_result: Callable[[Message], None]) -> None:
        topics = settings.topics
        self._names = (topics.answers, topics.unserved, topics.dlq)
        self._admin, self._on_result = admin, on_result
        # read before the first query is sent, so that no result can be missed
        self._starts = end_offsets(admin, self._names)
        self._config = reader_config(settings, f"{settings.app_id}-gateway")
        self._trouble = RecurringProblem("results_unreadable", "results_readable")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="result-reader", daemon=True)
        self.polled_at = time.monotonic()
        """Time of the last poll, by the monotonic clock."""
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the thread to end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        assigned = dict(self._starts)
        looked_at = time.monotonic()
        try:
            with closing(Consumer(self._config)) as consumer:
                consumer.assign([TopicPartition(*place, at) for place, at in assigned.items()])
                while not self._stopping.is_set():
                    for message in consume_available(consumer, MAX_MESSAGES, POLL_SECONDS):
                        self._handle(message)
                    self.polled_at = time.monotonic()
                    if self.polled_at - looked_at > NEW_PARTITIONS_SECONDS:
                        looked_at = self.polled_at
                        self._follow_new_partitions(consumer, assigned)
        except Exception as error:
            self.failure = error
            log.exception("result_reader_died")

    def _handle(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._trouble.resolved()
            if any(name == GATEWAY_HEADER for name, _ in headers_of(message)):
                self._on_result(message)
        elif error.code() not in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN):
            self._trouble.occurred(reason=error.str())

    def _follow_new_partitions(self, consumer: Consumer, assigned: dict[tuple[str, int], int]) -> None:
        """Read partitions that were added, from their beginning."""
        try:
            existing = existing_partitions(self._admin)
        except KafkaException as error:
            self._trouble.occurred(reason=error.args[0].str())
            return
        added = {
            (name, number): 0
            for name in self._names
            for number in range(existing.get(name, 0))
            if (name, number) not in assigned
        }
        if added:
            consumer.incremental_assign([TopicPartition(*place, at) for place, at in added.items()])
            assigned |= added
