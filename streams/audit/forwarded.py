"""Queries that `topics forward` copied from added partitions: each is on a partition that has a lane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streams.audit.findings import Findings
from streams.audit.inputs import InputColumns
from streams.audit.outputs import frame
from streams.audit.topic_records import TopicRecord, TopicSource
from streams.config.topic_names import Topics


class ForwardedCopies:
    """Records of added partitions that the forwarder has passed.

    Parameters
    ----------
    logs : TopicSource
        Its offsets of forwarding are read now, before the records.
    topics : Topics
    lanes : int
        Partitions of the queries that have a lane.
    """

    def __init__(self, logs: TopicSource, topics: Topics, lanes: int) -> None:
        self._lanes = lanes
        added = range(lanes, logs.partitions()[topics.queries])
        self._offsets = logs.forwarded(topics.queries, added) if added else {}
        self._expected: list[Counter[tuple[int, int]]] = [Counter() for _ in range(lanes)]

    def add(self, entry: TopicRecord) -> bool:
        """Return whether a record of an added partition was forwarded, and expect its copy if so."""
        if entry.offset >= self._offsets.get(entry.partition, 0):
            return False
        digests = hash(entry.value), frame(entry.key, entry.headers)
        self._expected[entry.partition % self._lanes][digests] += 1
        return True

    def check(self, inputs: Sequence[InputColumns], findings: Findings) -> None:
        """Report forwarded records that are not on the partition that they were forwarded to."""
        for lane, expected in enumerate(self._expected):
            if not expected:
                continue
            present = Counter(digests for digests in inputs[lane].digests() if digests in expected)
            if missing := (expected - present).total():
                findings.add("missing", f"{missing} forwarded queries are not on partition {lane}")
