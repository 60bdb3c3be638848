"""Reading parts of topics back: what is committed, from an offset or a moment on, up to where it ends now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from streams.leaders import watermarks
from streams.reading import read_to_ends

CLOCK_SECONDS = 5.0
"""By how much the clocks of those who write may differ."""


class Scanner(AbstractContextManager["Scanner"]):
    """One consumer for many looks at many topics.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`: it reads committed and tells each partition's end.

    Raises
    ------
    KafkaException
        From any method: the broker said something that waiting does not mend.
    TimeoutError
        It says nothing.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
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
        """How many partitions a topic has; 0 when it is not there."""
        if topic not in self._partitions:
            found = self._consumer.list_topics(timeout=10).topics
            self._partitions = {name: len(details.partitions) for name, details in found.items()}
        return self._partitions.get(topic, 0)

    def places(self, topic: str, start: int = 0) -> list[TopicPartition]:
        """All partitions of a topic, from an offset on."""
        return [TopicPartition(topic, number, start) for number in range(self.partitions(topic))]

    def places_since(self, places: Iterable[TopicPartition], moment: float) -> list[TopicPartition]:
        """The same partitions from a moment on (seconds since the epoch), and a little before.

        Partitions to which nothing was written since are left out.
        """
        stamp = max(0, int((moment - CLOCK_SECONDS) * 1000))
        asked = [TopicPartition(place.topic, place.partition, stamp) for place in places]
        if not asked:
            return []
        found = self._consumer.offsets_for_times(asked, timeout=10)
        return [
            TopicPartition(place.topic, place.partition, place.offset) for place in found if place.offset >= 0
        ]

    def read(self, places: Iterable[TopicPartition]) -> Iterator[Message]:
        """Messages of these partitions up to where each ends now, in order within a partition.

        A partition's reading can be ended early by closing the iterator.
        """
        try:
            yield from read_to_ends(self._consumer, places)
        finally:
            # an iterator that was left half-way may be closed later than the consumer
            if not self._closed:
                self._consumer.unassign()

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last record of a partition."""
        return watermarks(self._consumer, TopicPartition(topic, partition))[1]

    def message_at(self, topic: str, partition: int, offset: int) -> Message | None:
        """The message at an offset; None when it is gone, was never committed, or is not there yet."""
        if partition >= self.partitions(topic):
            return None
        low, high = watermarks(self._consumer, TopicPartition(topic, partition))
        if not low <= offset < high:
            return None
        for message in self.read([TopicPartition(topic, partition, offset)]):
            return message if message.offset() == offset else None
        return None


def place_of(message: Message) -> str:
    """Where a message is, for people.

    The form is that of `dlq show`: topic, partition, offset.
    """
    return f"{message.topic()}[{message.partition()}]@{message.offset()}"


def written_at(message: Message) -> float:
    """When a message was written, in seconds since the epoch."""
    return float(message.timestamp()[1]) / 1000
