"""Source of the topic records that the audit checks: a Kafka cluster, or records held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.kafka.group_offsets import forward_group
from streams.kafka.scanner import Scanner
from streams.messages.headers import Header, headers_of


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """One committed record of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()

    @property
    def place(self) -> str:
        """Topic, partition and offset in the form that people read: `topic[partition]@offset`."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


class TopicSource(Protocol):
    """Topics as a `read_committed` consumer sees them."""

    def partitions(self) -> Mapping[str, int]:
        """Return the number of partitions of every topic, by name."""
        ...

    def starts(self, topic: str) -> Mapping[int, int]:
        """Return the first offset that each partition of a topic still has."""
        ...

    def forwarded(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the offsets before which records of added partitions were forwarded."""
        ...

    def passed(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the offsets before which workers have read all records, past transaction markers."""
        ...

    def read(self, *topics: str) -> Iterator[TopicRecord]:
        """Read all records up to the current end of each partition, in order within a partition."""
        ...


class KafkaTopicSource:
    """The topics of a Kafka cluster.

    Parameters
    ----------
    scanner : Scanner
    app_id : str
        The router's.
    """

    def __init__(self, scanner: Scanner, app_id: str) -> None:
        self._scanner, self._app_id = scanner, app_id

    def partitions(self) -> Mapping[str, int]:
        """Return the number of partitions of every topic, by name."""
        return self._scanner.topics()

    def starts(self, topic: str) -> Mapping[int, int]:
        """Return the first offset that each partition of a topic still has."""
        partitions = range(self._scanner.topics().get(topic, 0))
        return {partition: self._scanner.start(topic, partition) for partition in partitions}

    def forwarded(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the offsets before which records of added partitions were forwarded."""
        return self._scanner.group_offsets(forward_group(self._app_id), topic, partitions)

    def passed(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the offsets before which workers have read all records, past transaction markers."""
        return self._scanner.group_offsets(self._app_id, topic, partitions)

    def read(self, *topics: str) -> Iterator[TopicRecord]:
        """Read all committed records up to the current end of each partition.

        Raises
        ------
        KafkaException
            The broker returned an error that a retry does not resolve.
        TimeoutError
            The broker does not answer.
        """
        existing = self._scanner.topics()
        places = [place for topic in topics if topic in existing for place in self._scanner.places(topic)]
        for message in self._scanner.read(places):
            yield TopicRecord(
                message.topic() or "",
                int(message.partition() or 0),
                int(message.offset() or 0),
                message.key(),
                message.value(),
                headers_of(message),
            )
