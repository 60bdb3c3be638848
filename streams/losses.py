"""Topics that were deleted or cut under a router: what ledgers and plan say against what the topics hold.

Looked for before a worker takes partitions. What is found cannot be mended in place: going on would route
queries again and spend budgets again, or wait for ever.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from routing.plan import Plan
from streams.cluster import LedgerView
from streams.kafka import reader_config
from streams.leaders import watermarks
from streams.ledger import LedgerRecord
from streams.plans import PlanReader
from streams.settings import Settings
from streams.topic_names import Topics

log = structlog.get_logger(__name__)

GUIDE = 'see "When something is gone" in docs/operations.md'
SILENCE_SECONDS = 20.0

PLAN_SECONDS = 10.0
"""How much later a plan may be read than a ledger that rests on it: each has a reader of its own."""

Place = tuple[str, int]


def look_for_losses(settings: Settings, view: LedgerView, plans: PlanReader) -> None:
    """See that the topics still hold what plan and ledgers rest on, once both are read.

    Raises
    ------
    ValueError
        A topic was deleted or cut: nothing may be decided.
    """
    if failure := view.failure or plans.failure:
        raise failure
    deadline = time.monotonic() + PLAN_SECONDS
    while True:
        records = view.records()
        found = lost_records(settings.topics, plans.latest, records)
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    found += lost_inputs(reader_config(settings), settings.topics, settings.partitions, records)
    if found:
        log.error("topics_lost", problems=found)
        raise ValueError("; ".join(found))


def lost_records(topics: Topics, plan: Plan | None, records: Mapping[int, LedgerRecord]) -> list[str]:
    """Ledgers without their plan, or a plan without the ledgers that it was learned from.

    Parameters
    ----------
    topics : Topics
    plan : Plan or None
        In force.
    records : mapping of int to LedgerRecord
        By lane.
    """
    known = max((record.revision for record in records.values()), default=0)
    if plan is None and known > 0:
        return [f"topic {topics.plans}: has no plan, and ledgers rest on revision {known}; {GUIDE}"]
    if plan is not None and plan.revision < known:
        return [
            f"topic {topics.plans}: has revision {plan.revision}, ledgers rest on revision {known}; {GUIDE}"
        ]
    if plan is not None and plan.learned and not records:
        return [
            f"topic {topics.ledger}: is empty, and prices were learned from what lanes had done; "
            f"what was decided and spent is forgotten; {GUIDE}"
        ]
    return []


def lost_inputs(
    config: Mapping[str, Any], topics: Topics, lanes: int, records: Mapping[int, LedgerRecord]
) -> list[str]:
    """Topics that end before where a ledger goes on.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`.
    topics : Topics
    lanes : int
        Partitions of the queries; the overflow lane has this number.
    records : mapping of int to LedgerRecord
        By lane.
    """
    wanted: dict[Place, int] = {}
    for lane, record in records.items():
        place = (topics.overflow, 0) if lane == lanes else (topics.queries, lane)
        wanted[place] = max(record.next, record.sampled)
        wanted[topics.outcomes, lane] = record.outcomes_next
    ends = shorter(config, wanted)
    return [
        f"topic {topic}: partition {partition} ends at offset {end}, and its ledger goes on at "
        f"{wanted[topic, partition]}; {GUIDE}"
        for (topic, partition), end in sorted(ends.items())
    ]


def shorter(config: Mapping[str, Any], wanted: Mapping[Place, int]) -> dict[Place, int]:
    """Which partitions end before an offset, and where; those that do not answer in time are left out.

    Found by reading from there: not every broker tells the ends of topics rightly.
    """
    left = {place: offset for place, offset in wanted.items() if offset > 0}
    if not left:
        return {}
    found: dict[Place, int] = {}
    deadline = time.monotonic() + SILENCE_SECONDS
    # a consumer that is sent beyond an end begins at the beginning, or says that it is at the end
    small = {"fetch.message.max.bytes": 1024, "queued.max.messages.kbytes": 1024}
    with closing(Consumer(dict(config) | small)) as consumer:
        consumer.assign([TopicPartition(*place, offset) for place, offset in left.items()])
        while left and time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None:
                continue
            place = (message.topic() or "", int(message.partition() or 0))
            error = message.error()
            if place not in left or (error is not None and error.code() != KafkaError._PARTITION_EOF):
                continue
            offset = int(message.offset() or 0)
            if offset < left.pop(place):
                found[place] = offset
            consumer.pause([TopicPartition(*place)])
    if left:
        log.warning("losses_not_known", topics=sorted({topic for topic, _ in left}))
    # where reading began anew tells that it ends before, not where
    return {place: _end(config, place, offset) for place, offset in found.items()}


def _end(config: Mapping[str, Any], place: Place, known: int) -> int:
    with closing(Consumer(dict(config))) as consumer:
        return max(known, watermarks(consumer, TopicPartition(*place))[1])
