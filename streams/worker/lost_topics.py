"""Check that the topics still hold the records that the plan and the ledgers refer to.

A worker checks this before it joins the group. If a topic was deleted or truncated, the worker must not
start: it would route queries and spend budgets again, or wait indefinitely.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog

from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.config.topic_names import Topics
from streams.kafka.clients import reader_config
from streams.kafka.offsets import Place, partitions_ending_before
from streams.kafka.reading import (
    read_to_end,
)
from streams.ledger.record import LedgerRecord
from streams.ledger.view import LedgerView
from streams.planner.plan_reader import PlanReader

log = structlog.get_logger(__name__)

GUIDE = 'see "When something is gone" in docs/operations.md'

PLAN_SECONDS = 10.0
"""Maximum delay of the plan's reader behind the ledgers' reader."""


def check_topics_intact(settings: Settings, view: LedgerView, plans: PlanReader) -> None:
    """Check the topics against plan and ledgers, once both have been read.

    Raises
    ------
    ValueError
        A topic was deleted or truncated.
    """
    if failure := view.failure or plans.failure:
        raise failure
    deadline = time.monotonic() + PLAN_SECONDS
    while True:
        records = view.records()
        problems = lost_records(settings.topics, plans.latest, records)
        if not problems or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    problems += truncated_inputs(reader_config(settings), settings.topics, settings.partitions, records)
    problems += lost_ledgers(settings, plans.latest, records)
    if problems:
        log.error("topics_lost", problems=problems)
        raise ValueError("; ".join(problems))


def lost_records(topics: Topics, plan: Plan | None, records: Mapping[int, LedgerRecord]) -> list[str]:
    """Return a problem if the plan of the ledgers is missing, or the ledgers of a learned plan.

    Parameters
    ----------
    topics : Topics
    plan : Plan or None
        Plan in force.
    records : mapping of int to LedgerRecord
        By lane.
    """
    newest = max((record.revision for record in records.values()), default=0)
    if plan is None and newest > 0:
        return [f"topic {topics.plans}: has no plan, but ledgers refer to revision {newest}; {GUIDE}"]
    if plan is not None and plan.revision < newest:
        return [
            f"topic {topics.plans}: has revision {plan.revision}, but ledgers refer to revision {newest}; "
            f"{GUIDE}"
        ]
    if plan is not None and plan.learned and not records:
        return [
            f"topic {topics.ledger}: is empty, but prices were learned from its lanes; "
            f"their decisions and spending are lost; {GUIDE}"
        ]
    return []


def lost_ledgers(settings: Settings, plan: Plan | None, records: Mapping[int, LedgerRecord]) -> list[str]:
    """Return a problem for each lane that has reservations but no ledger.

    Such a lane would decide its queries again, and spend again.

    Parameters
    ----------
    settings : Settings
    plan : Plan or None
        Plan in force; without one no lane has decided anything.
    records : mapping of int to LedgerRecord
        By lane.
    """
    topics, problems = settings.topics, []
    for lane in range(plan.lanes if plan is not None else 0):
        if lane in records:
            continue
        for _ in read_to_end(reader_config(settings), topics.reservations, lane):
            topic = topics.ledger if lane < settings.partitions else topics.overflow_ledger
            problems.append(
                f"topic {topic}: has no ledger of lane {lane}, which has reservations "
                f"({topics.reservations}); its decisions and spending are lost; {GUIDE}"
            )
            break
    return problems


def truncated_inputs(
    config: Mapping[str, Any], topics: Topics, lanes: int, records: Mapping[int, LedgerRecord]
) -> list[str]:
    """Return a problem for each partition that ends before the position of a ledger.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    topics : Topics
    lanes : int
        Partitions of the queries; the overflow lane has this number.
    records : mapping of int to LedgerRecord
        By lane.
    """
    positions: dict[Place, int] = {}
    for lane, record in records.items():
        place = (topics.overflow, 0) if lane == lanes else (topics.queries, lane)
        positions[place] = max(record.next, record.sampled)
        positions[topics.outcomes, lane] = record.outcomes_next
        positions[topics.returned, lane] = record.returned_next
    ends = partitions_ending_before(config, positions)
    return [
        f"topic {topic}: partition {partition} ends at offset {end}, but its ledger continues at "
        f"{positions[topic, partition]}; {GUIDE}"
        for (topic, partition), end in sorted(ends.items())
    ]
