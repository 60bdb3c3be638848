"""Topics as lists, for tests of desks as units: what is committed, who is fenced. No stand-in for Kafka."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams import planner, plans, router
from streams.settings import Settings


@dataclass
class Message:
    """As confluent-kafka gives it."""

    place: int
    content: bytes | None
    name: bytes | None = None
    more: list[tuple[str, bytes | None]] = field(default_factory=list)

    def offset(self) -> int:
        return self.place

    def value(self) -> bytes | None:
        return self.content

    def key(self) -> bytes | None:
        return self.name

    def headers(self) -> list[tuple[str, bytes | None]]:
        return self.more


class Topics:
    """Committed messages by topic and partition, and the newest producer of each transactional id."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], list[Message]] = defaultdict(list)
        self.owners: dict[str, Producer] = {}
        self.commits = 0
        self.fail: Callable[[], None] = lambda: None
        """Called before each commit; may raise."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module in (router, planner):
            patch.setattr(module, "FencedProducer", lambda config, in_turn: Producer(self, config))
            patch.setattr(module, "read_to_end", self.read_to_end)
            patch.setattr(module, "transactional_config", lambda settings, name: {"transactional.id": name})
            patch.setattr(module, "reader_config", lambda settings: {})
        patch.setattr(planner, "shorter", self.shorter)
        patch.setattr(plans, "read_to_end", self.read_to_end)
        patch.setattr(plans, "reader_config", lambda settings: {})

    def read_to_end(
        self, config: Mapping[str, Any], topic: str, partition: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Message]:
        return iter(self.kept[topic, partition][start:stop])

    def shorter(self, config: Any, wanted: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        ends = {place: len(self.kept[place]) for place in wanted}
        return {place: end for place, end in ends.items() if end < wanted[place]}

    def of(self, topic: str, partition: int = 0) -> list[Message]:
        return self.kept[topic, partition]

    def add(self, topic: str, value: bytes, partition: int = 0, headers: Any = ()) -> Message:
        message = Message(len(self.kept[topic, partition]), value, None, list(headers))
        self.kept[topic, partition].append(message)
        return message


class Producer:
    """Takes part in transactions until a newer one of its name is made."""

    def __init__(self, topics: Topics, config: Mapping[str, Any]) -> None:
        self.topics, self.name = topics, config["transactional.id"]
        topics.owners[self.name] = self
        self._open: list[tuple[str, int, Message, Any]] = []

    def begin(self) -> None:
        self._open = []

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None = None, headers: Any = None,
        partition: int = -1, on_offset: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._open.append((topic, max(partition, 0), Message(0, value, key, list(headers or ())), on_offset))

    def commit(self) -> None:
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
    """A message as aiokafka gives it."""
    return SimpleNamespace(
        topic=topic, partition=partition, offset=message.place, timestamp=0, key=message.name,
        value=message.content, headers=tuple(message.more),
    )  # fmt: skip


def settings_of(**options: Any) -> Settings:
    return Settings(**{"bootstrap_servers": "nowhere:1", "partitions": 2, "horizon": 100, **options})
