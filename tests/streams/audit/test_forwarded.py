from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from streams.audit.findings import Findings
from streams.audit.forwarded import ForwardedCopies
from streams.audit.inputs import InputColumns
from streams.audit.outputs import decode_input
from streams.audit.topic_records import TopicRecord
from streams.config.topic_names import Topics

TOPICS = Topics()


class Source:
    """A topic of queries with two lanes and two added partitions."""

    def __init__(self, forwarded: Mapping[int, int]) -> None:
        self._forwarded = forwarded

    def partitions(self) -> Mapping[str, int]:
        return {TOPICS.queries: 4}

    def forwarded(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        assert (topic, list(partitions)) == (TOPICS.queries, [2, 3])
        return self._forwarded


def entry(partition: int, offset: int, **fields: Any) -> TopicRecord:
    plain = {"key": b"k", "value": b"v", "headers": (("trace", b"\xff"),)}
    return TopicRecord(TOPICS.queries, partition, offset, **plain | fields)


def copies_of(*records: TopicRecord) -> list[InputColumns]:
    columns = [InputColumns(False), InputColumns(False)]
    for record in records:
        columns[record.partition].append(record.offset, decode_input(record, False))
    return columns


def test_records_up_to_the_offset_of_the_group_are_forwarded():
    copies = ForwardedCopies(Source({3: 7}), TOPICS, 2)  # type: ignore[arg-type]
    assert [copies.add(entry(3, offset)) for offset in (0, 6, 7)] == [True, True, False]
    assert not copies.add(entry(2, 0))


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ([entry(1, 4), entry(1, 9)], 0),
        ([entry(1, 4)], 1),
        ([], 2),
        ([entry(0, 4), entry(0, 5)], 2),
        ([entry(1, 4), entry(1, 5, value=b"other")], 1),
        ([entry(1, 4), entry(1, 5, key=None)], 1),
        ([entry(1, 4), entry(1, 5, headers=())], 1),
    ],
)
def test_each_forwarded_record_is_on_its_partition_as_often(present: list[TopicRecord], missing: int):
    copies, findings = ForwardedCopies(Source({3: 2}), TOPICS, 2), Findings()  # type: ignore[arg-type]
    for offset in (0, 1):
        copies.add(entry(3, offset))
    copies.check(copies_of(*present), findings)
    assert findings.counts["missing"] == (1 if missing else 0)
    if missing:
        assert findings.examples["missing"] == [f"{missing} forwarded queries are not on partition 1"]
