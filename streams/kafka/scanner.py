"""Reading of parts of topics: committed messages from an offset or a time to the current end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from confluent_kafka import Message, TopicPartition

from streams.kafka.bounded_clients import Consumer
from streams.kafka.group_offsets import read_group_offsets
from streams.kafka.offsets import watermarks
from streams.kafka.reading import read_to_ends

CLOCK_SECONDS = 5.0
"""Maximum difference between the clocks of producers."""


class Scanner(AbstractContextManager["Scanner"]):
    """One consumer that reads parts of many topics.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`, which reads committed messages and reports ends.

    Raises
    ------
    KafkaException
        From any method: the broker returned an error that is not temporary.
    TimeoutError
        The broker did not answer in time.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._consumer = Consumer({**config, "fetch.wait.max.ms": 20})
        self._partitions: dict[str, int] = {}
        self._closed = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the consumer."""
        self._closed = True
        self._consumer.close()

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic; 0 if it does not exist."""
        if topic not in self._partitions:
            self._partitions = self._list_topics()
        return self._partitions.get(topic, 0)

    def topics(self) -> Mapping[str, int]:
        """Return the number of partitions of every topic, by name."""
        if not self._partitions:
            self._partitions = self._list_topics()
        return self._partitions

    def group_offsets(self, group: str, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return a consumer group's committed offset of each partition that has one."""
        return read_group_offsets(self._config, group, topic, partitions)

    def _list_topics(self) -> dict[str, int]:
        topics = self._consumer.list_topics(timeout=10).topics
        return {name: len(details.partitions) for name, details in topics.items()}

    def places(self, topic: str, start: int = 0) -> list[TopicPartition]:
        """Return all partitions of a topic, with a start offset."""
        return [TopicPartition(topic, number, start) for number in range(self.partitions(topic))]

    def places_since(self, places: Iterable[TopicPartition], moment: float) -> list[TopicPartition]:
        """Return partitions with the offset of a time in seconds since the epoch, and a little earlier.

        Partitions without records since then are left out.
        """
        stamp = max(0, int((moment - CLOCK_SECONDS) * 1000))
        stamped = [TopicPartition(place.topic, place.partition, stamp) for place in places]
        if not stamped:
            return []
        positions = self._consumer.offsets_for_times(stamped, timeout=10)
        return [
            TopicPartition(place.topic, place.partition, place.offset)
            for place in positions
            if place.offset >= 0
        ]

    def read(self, places: Iterable[TopicPartition]) -> Iterator[Message]:
        """Yield messages of partitions up to their current ends, in order within a partition.

        Close the iterator to stop early.
        """
        try:
            yield from read_to_ends(self._consumer, places)
        finally:
            # an unfinished iterator may be closed after the consumer
            if not self._closed:
                self._consumer.unassign()

    def start(self, topic: str, partition: int) -> int:
        """Return the first offset that a partition still has."""
        return watermarks(self._consumer, TopicPartition(topic, partition))[0]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record of a partition."""
        return watermarks(self._consumer, TopicPartition(topic, partition))[1]

    def message_at(self, topic: str, partition: int, offset: int) -> Message | None:
        """Return the message at an offset; None if it was deleted, not committed or not written yet."""
        if partition >= self.partitions(topic):
            return None
        low, high = watermarks(self._consumer, TopicPartition(topic, partition))
        if not low <= offset < high:
            return None
        for message in self.read([TopicPartition(topic, partition, offset)]):
            return message if message.offset() == offset else None
        return None


def format_position(message: Message) -> str:
    """Return a message's topic, partition and offset for people, in the form of `dlq show`."""
    return f"{message.topic()}[{message.partition()}]@{message.offset()}"


def written_at(message: Message) -> float:
    """Return a message's timestamp in seconds since the epoch."""
    return float(message.timestamp()[1]) / 1000
