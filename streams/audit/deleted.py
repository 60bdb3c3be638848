"""Check for records that were deleted before a lane read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.audit.findings import Findings
from streams.audit.topic_records import TopicSource
from streams.config.topic_names import Topics
from streams.ledger.record import LedgerRecord


def check_deleted(
    topics: Topics,
    ledgers: Sequence[LedgerRecord],
    starts: Mapping[str, Mapping[int, int]],
    source: TopicSource,
    findings: Findings,
) -> None:
    """Report records that were deleted unread, by the ledgers or by the start of a partition.

    Parameters
    ----------
    topics : Topics
    ledgers : sequence of LedgerRecord
        By lane, the overflow lane last.
    starts : mapping of str to mapping
        First offset of each partition by topic, requested before the ledgers were read.
    source : TopicSource
        Source of the offsets that workers have read, past transaction markers.
    findings : Findings
    """
    pool = len(ledgers) - 1
    for lane, ledger in enumerate(ledgers):
        topic, partition = (topics.overflow, 0) if lane == pool else (topics.queries, lane)
        inputs = {"input": (topic, partition, ledger.next), "outcomes": (topics.outcomes, lane, 0)}
        inputs["returned"] = (topics.returned, lane, 0)
        for side, (offsets, start, _) in ledger.deleted.items():
            name, number, _ = inputs[side]
            if not offsets:
                continue  # transaction markers only
            findings.add(
                "deleted",
                f"{name}[{number}]: {int(offsets)} offsets were deleted before lane {lane} read "
                f"them, the last before {int(start)}",
            )
        start = starts.get(topic, {}).get(partition, 0)
        if start > ledger.next and source.passed(topic, [partition]).get(partition, 0) >= start:
            start = min(start, max(ledger.next, ledger.sampled))
        lost = start - ledger.next
        text = f"{topic}[{partition}]: {lost} offsets from {ledger.next} on were deleted unread"
        if lost > 1:
            findings.add("deleted", f"{text}; no worker has recorded it yet")
        elif lost == 1:
            findings.notes.append(f"{text}; it may have been the marker of a transaction")
