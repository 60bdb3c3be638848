"""Kafka clients whose blocking calls are limited from outside: librdkafka can ignore the limits it is given.

`send_offsets_to_transaction` is known to wait indefinitely after its group's coordinator was away (librdkafka
2.16, issue 5456). The call is abandoned and raises a timeout, so that its caller opens another producer. No
other call is known to do so. If one does, the process ends with status 1: the call's thread cannot be ended.
"""

from __future__ import annotations

from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition, admin
from confluent_kafka.admin import ClusterMetadata

from streams.kafka.time_limits import CallOverdue, call_within, time_limit

GRACE_SECONDS = 30.0
"""Maximum delay of a call beyond its own limit."""

OFFSETS_GRACE_SECONDS = 2.0
"""The same for the call that is known to ignore its limit."""

CLOSE_SECONDS = 60.0
"""Limit of closing a consumer, without the callbacks of its rebalance, which have limits of their own."""


class Consumer(confluent_kafka.Consumer):
    """A consumer; a blocking call that ignores its time limit ends the process."""

    def poll(self, timeout: float) -> Message | None:  # type: ignore[override]
        """Return the next message or error event; None after `timeout` seconds without one."""
        with time_limit("Consumer.poll", timeout + GRACE_SECONDS):
            return super().poll(timeout)

    def consume(self, num_messages: int, timeout: float) -> list[Message]:  # type: ignore[override]
        """Return what comes within `timeout` seconds, `num_messages` at most."""
        with time_limit("Consumer.consume", timeout + GRACE_SECONDS):
            return super().consume(num_messages, timeout)

    def committed(  # type: ignore[override]
        self, partitions: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]:
        """Return the group's offsets."""
        with time_limit("Consumer.committed", timeout + GRACE_SECONDS):
            return super().committed(partitions, timeout)

    def get_watermark_offsets(  # type: ignore[override]
        self, partition: TopicPartition, timeout: float
    ) -> tuple[int, int]:
        """Return a partition's first offset and the one after its last."""
        with time_limit("Consumer.get_watermark_offsets", timeout + GRACE_SECONDS):
            return super().get_watermark_offsets(partition, timeout)

    def offsets_for_times(  # type: ignore[override]
        self, partitions: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]:
        """Return the first offsets at or after times."""
        with time_limit("Consumer.offsets_for_times", timeout + GRACE_SECONDS):
            return super().offsets_for_times(partitions, timeout)

    def list_topics(self, *, timeout: float) -> ClusterMetadata:  # type: ignore[override]
        """Return the cluster's topics."""
        with time_limit("Consumer.list_topics", timeout + GRACE_SECONDS):
            return super().list_topics(timeout=timeout)

    def close(self) -> None:
        """Leave the group and close."""
        with time_limit("Consumer.close", CLOSE_SECONDS):
            super().close()


class Producer(confluent_kafka.Producer):
    """A producer; a blocking call that ignores its time limit ends the process, or is abandoned."""

    _abandoned = False

    def init_transactions(self, timeout: float) -> None:  # type: ignore[override]
        """Fence former owners of the transactional id."""
        with time_limit("Producer.init_transactions", timeout + GRACE_SECONDS):
            super().init_transactions(timeout)

    def begin_transaction(self) -> None:
        """Begin a transaction."""
        with time_limit("Producer.begin_transaction", GRACE_SECONDS):
            super().begin_transaction()

    def send_offsets_to_transaction(  # type: ignore[override]
        self, positions: list[TopicPartition], group_metadata: Any, timeout: float
    ) -> None:
        """Add a group's offsets to the open transaction.

        Raises
        ------
        KafkaException
            `_TIMED_OUT` also when librdkafka ignores `timeout`. The producer is of no use then.
        """
        name, send = "Producer.send_offsets_to_transaction", super().send_offsets_to_transaction
        try:
            with time_limit(name, timeout + GRACE_SECONDS):
                call_within(name, timeout + OFFSETS_GRACE_SECONDS, send, positions, group_metadata, timeout)
        except CallOverdue as overdue:
            self._abandoned = True
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, str(overdue))) from None

    def commit_transaction(self, timeout: float) -> None:  # type: ignore[override]
        """Commit the open transaction."""
        with time_limit("Producer.commit_transaction", timeout + GRACE_SECONDS):
            super().commit_transaction(timeout)

    def abort_transaction(self, timeout: float) -> None:  # type: ignore[override]
        """Abort the open transaction; the next producer of the same id does it for an abandoned one."""
        if self._abandoned:
            raise KafkaException(KafkaError(KafkaError._STATE, "a call of this producer was abandoned"))
        with time_limit("Producer.abort_transaction", timeout + GRACE_SECONDS):
            super().abort_transaction(timeout)

    def flush(self, timeout: float) -> int:  # type: ignore[override]
        """Wait for acknowledgements; return how many messages have none."""
        with time_limit("Producer.flush", timeout + GRACE_SECONDS):
            return super().flush(timeout)


class AdminClient(admin.AdminClient):
    """An admin client; a blocking call that ignores its time limit ends the process."""

    def list_topics(  # type: ignore[override]
        self, topic: str | None = None, *, timeout: float
    ) -> ClusterMetadata:
        """Return the cluster's brokers, and its topics or that one."""
        with time_limit("AdminClient.list_topics", timeout + GRACE_SECONDS):
            return super().list_topics(topic, timeout) if topic else super().list_topics(timeout=timeout)
