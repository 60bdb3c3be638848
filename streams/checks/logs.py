"""What the checker reads: every committed record of a topic, from a broker or from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from confluent_kafka import Consumer, TopicPartition

from streams.headers import headers_of
from streams.leaders import watermarks
from streams.reading import read_to_ends

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Logs(Protocol):
    """Topics as a consumer sees them that reads committed."""

    def partitions(self) -> Mapping[str, int]:
        """How many partitions each topic has."""
        ...

    def first(self, topic: str) -> int:
        """Records that are gone from the beginnings of a topic's partitions; 0 where all are there."""
        ...

    def read(self, *topics: str) -> Iterator[Entry]:
        """All records up to where each partition ends now, in order within a partition."""
        ...


class KafkaLogs(AbstractContextManager["KafkaLogs"]):
    """The topics of a cluster.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`: it reads committed and tells each partition's end.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._consumer = Consumer({**config, "fetch.wait.max.ms": 20})
        self._partitions: dict[str, int] | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the consumer."""
        self._consumer.close()

    def partitions(self) -> Mapping[str, int]:
        """How many partitions each topic has."""
        if self._partitions is None:
            topics = self._consumer.list_topics(timeout=10).topics
            self._partitions = {name: len(topic.partitions) for name, topic in topics.items()}
        return self._partitions

    def first(self, topic: str) -> int:
        """Records that are gone, by the low watermarks."""
        places = self._places([topic])
        return sum(watermarks(self._consumer, place)[0] for place in places)

    def read(self, *topics: str) -> Iterator[Entry]:
        """All records up to where each partition ends now.

        Raises
        ------
        KafkaException
            The broker said something that waiting does not mend.
        TimeoutError
            It says nothing.
        """
        for message in read_to_ends(self._consumer, self._places(topics)):
            yield Entry(
                message.topic() or "", int(message.partition() or 0), int(message.offset() or 0),
                message.key(), message.value(), headers_of(message),
            )  # fmt: skip

    def _places(self, topics: Sequence[str]) -> list[TopicPartition]:
        known = self.partitions()
        return [TopicPartition(topic, number, 0) for topic in topics for number in range(known.get(topic, 0))]
