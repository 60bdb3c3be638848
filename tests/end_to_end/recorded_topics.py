"""A copy of a router's topics in memory, to change it and audit it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from streams.audit.check import Findings, check
from streams.audit.topic_records import TopicRecord, TopicSource
from streams.config.topic_names import Topics

Change = Callable[[TopicRecord], TopicRecord | None]


class Recorded:
    """Every record of a router's topics.

    Parameters
    ----------
    topics : Topics
    partitions : mapping of str to int
    entries : mapping of str to list of TopicRecord
        By topic.
    """

    def __init__(
        self, topics: Topics, partitions: Mapping[str, int], entries: Mapping[str, list[TopicRecord]]
    ) -> None:
        self.topics, self._partitions, self.entries = topics, dict(partitions), dict(entries)

    @classmethod
    def of(cls, logs: TopicSource, topics: Topics) -> Recorded:
        """Copy the records of a router's topics."""
        partitions = {name: n for name, n in logs.partitions().items() if name.startswith(topics.prefix)}
        entries: dict[str, list[TopicRecord]] = {name: [] for name in partitions}
        for entry in logs.read(*partitions):
            entries[entry.topic].append(entry)
        return cls(topics, partitions, entries)

    # ---- what the checker reads --------------------------------------------------------------------------

    def partitions(self) -> Mapping[str, int]:
        return self._partitions

    def starts(self, topic: str) -> Mapping[int, int]:
        return {}

    def forwarded(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        return {}

    def passed(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        return {}

    def read(self, *topics: str) -> Iterator[TopicRecord]:
        for topic in topics:
            yield from self.entries.get(topic, [])

    def check(self) -> Findings:
        return check(self, self.topics, complete=True)

    # ---- changes; each gives another history -------------------------------------------------------------

    def copy(self) -> Recorded:
        return Recorded(self.topics, self._partitions, {k: list(v) for k, v in self.entries.items()})

    def without(self, entry: TopicRecord) -> Recorded:
        """Return a copy without one record."""
        other = self.copy()
        other.entries[entry.topic] = [e for e in self.entries[entry.topic] if e is not entry]
        return other

    def with_more(self, entry: TopicRecord, topic: str | None = None) -> Recorded:
        """Return a copy with a record appended to its partition, or to that of another topic."""
        other, topic = self.copy(), topic or entry.topic
        offsets = [e.offset for e in other.entries[topic] if e.partition == entry.partition]
        other.entries[topic].append(replace(entry, topic=topic, offset=max(offsets, default=-1) + 1))
        return other

    def moved(self, entry: TopicRecord, topic: str) -> Recorded:
        """Return a copy with a record moved to another topic."""
        return self.without(entry).with_more(entry, topic)

    def changed(self, entry: TopicRecord, **changes: Any) -> Recorded:
        """Return a copy with a record changed."""
        other = self.copy()
        at = next(i for i, e in enumerate(self.entries[entry.topic]) if e is entry)
        other.entries[entry.topic][at] = replace(entry, **changes)
        return other

    def edited(self, topic: str, edit: Callable[[dict[str, Any]], None], last: bool = False) -> Recorded:
        """Return a copy with JSON values of a topic edited: all, or the last of each partition."""
        other = self.copy()
        entries = other.entries[topic]
        newest = {entry.partition: i for i, entry in enumerate(entries)}
        for i, entry in enumerate(entries):
            if entry.value is not None and (not last or newest[entry.partition] == i):
                fields = orjson.loads(entry.value)
                edit(fields)
                entries[i] = replace(entry, value=orjson.dumps(fields))
        return other

    # ---- finding records ---------------------------------------------------------------------------------

    def routed(self, *, deferred: bool = False) -> list[TopicRecord]:
        """Return records of the LLMs' topics: of deferred queries, or of those decided at once."""
        return [
            entry
            for name, entries in sorted(self.entries.items())
            if name.startswith(self.topics.llm(""))
            for entry in entries
            if ("source" in routing_of(entry)) == deferred
        ]

    def other_llm(self, entry: TopicRecord) -> str:
        """Return the topic of another LLM."""
        return next(n for n in sorted(self.entries) if n.startswith(self.topics.llm("")) and n != entry.topic)


def routing_of(entry: TopicRecord) -> dict[str, Any]:
    """Return the fields that the router added."""
    routing: dict[str, Any] = orjson.loads(entry.value or b"")["routing"]
    return routing


def rewritten(entry: TopicRecord, **routing: Any) -> bytes:
    """Return the value with fields of `routing` changed."""
    fields = orjson.loads(entry.value or b"")
    fields["routing"] |= routing
    return orjson.dumps(fields)
