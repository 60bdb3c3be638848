"""Committed topics and fenced producers in memory, for unit tests of processors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from streams.config.settings import Settings


@dataclass
class Message:
    """A message with the interface of confluent-kafka."""

    place: int
    content: bytes | None
    name: bytes | None = None
    more: list[tuple[str, bytes | None]] = field(default_factory=list)

    def offset(self) -> int:
        return self.place

    def value(self) -> bytes | None:
        return self.content

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def key(self) -> bytes | None:
        return self.name

    def headers(self) -> list[tuple[str, bytes | None]]:
        return self.more


class Topics:
    """Committed messages and the newest producer of each transactional id.

    It has the methods of `streams.kafka.topic_access.TopicAccess`.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], list[Message]] = defaultdict(list)
        self.owners: dict[str, Producer] = {}
        self.commits = 0
        self.fail: Callable[[], None] = lambda: None
        """Called before each commit; may raise."""

    def open_producer(self, name: str) -> Producer:
        return Producer(self, name)

    def read(
        self, topic: str, partition: int = 0, start: int = 0, stop: int | None = None
    ) -> Iterator[Message]:
        return iter(self.kept[topic, partition][start:stop])

    def partitions_ending_before(self, offsets: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        ends = {place: len(self.kept[place]) for place in offsets}
        return {place: end for place, end in ends.items() if end < offsets[place]}

    def of(self, topic: str, partition: int = 0) -> list[Message]:
        return self.kept[topic, partition]

    def add(self, topic: str, value: bytes, partition: int = 0, headers: Any = ()) -> Message:
        message = Message(len(self.kept[topic, partition]), value, None, list(headers))
        self.kept[topic, partition].append(message)
        return message


class Producer:
    """A producer that can commit until a newer one of its name is opened."""

    def __init__(self, topics: Topics, name: str) -> None:
        self.topics, self.name = topics, name
        topics.owners[self.name] = self
        self._open: list[tuple[str, int, Message, Any]] = []

    @contextmanager
    def transaction(self) -> Iterator[Producer]:
        self.begin()
        try:
            yield self
            if self._open:
                self.commit()
        finally:
            self.close()

    def begin(self) -> None:
        self._open = []

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Any = None,
        partition: int = -1,
        on_offset: Callable[[int], None] | None = None,
    ) -> None:
        self._open.append((topic, max(partition, 0), Message(0, value, key, list(headers or ())), on_offset))

    def commit(self, next_offset: int | None = None) -> None:
        if self.topics.owners[self.name] is not self:
            raise KafkaException(KafkaError(KafkaError._FENCED, "fenced"))
        self.topics.fail()
        for topic, partition, message, on_offset in self._open:
            message.place = len(self.topics.kept[topic, partition])
            self.topics.kept[topic, partition].append(message)
            if on_offset is not None:
                on_offset(message.place)
        self._open = []
        self.topics.commits += 1

    def close(self) -> None:
        self._open = []


def record_of(message: Message, topic: str = "queries", partition: int = 0) -> SimpleNamespace:
    """Return the message as a record of aiokafka."""
    return SimpleNamespace(
        topic=topic,
        partition=partition,
        offset=message.place,
        timestamp=0,
        key=message.name,
        value=message.content,
        headers=tuple(message.more),
    )


def settings_of(**options: Any) -> Settings:
    return Settings(**{"bootstrap_servers": "nowhere:1", "partitions": 2, "horizon": 100, **options})
