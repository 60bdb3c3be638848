"""A worker's transactional producer: two producers whose transactions take turns.

A coordinator answers a commit before it has completed the transaction. Until then it refuses the next
transaction of the same producer, and librdkafka asks again after 20 ms. Another producer does not wait.
A transaction begins only after the one before has ended, so their order is that of a single producer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import TopicPartition

from streams.kafka.transactions import FencedProducer
from streams.messages.headers import Headers

SUFFIXES = ("", "-2")
"""Of the transactional ids of one worker."""


class AlternatingProducer:
    """The only producers of a worker's transactional ids. Later ones of the same ids fence them.

    Parameters
    ----------
    config : mapping
        Of the first producer, from `streams.kafka.clients.round_config`. The second has another id.

    Raises
    ------
    KafkaException
        As `FencedProducer`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        first = config["transactional.id"]
        self._producers = deque(
            FencedProducer({**config, "transactional.id": first + suffix}) for suffix in SUFFIXES
        )

    def begin(self) -> None:
        """Begin a transaction of the producer whose turn it is."""
        self._producers.rotate()
        self._producers[0].begin()

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        on_offset: Callable[[int], None] | None = None,
    ) -> None:
        """Add a message to the open transaction."""
        self._producers[0].produce(topic, value, key, headers, partition, on_offset)

    def send_offsets(self, offsets: list[TopicPartition], membership: object) -> None:
        """Add a consumer group's offsets to the open transaction."""
        self._producers[0].send_offsets(offsets, membership)

    def commit(self) -> None:
        """Commit the open transaction."""
        self._producers[0].commit()

    def close(self) -> bool:
        """Roll back an open transaction; False if that failed, and the next producer of the id does it."""
        return self._producers[0].close()
