"""The topics: how many partitions each has, how it is kept, and creating them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from routing.catalogue import Catalogue
from streams.leaders import PASSING_ERRORS
from streams.messages import MAX_VALUE_BYTES
from streams.settings import Settings
from streams.troubles import Trouble

VISIBLE_SECONDS = 30.0
DAY_MS = 24 * 3600 * 1000
KEPT_DAYS = 30
"""How long samples, reservations and the log of plans are kept: the planner's memory, and what explains."""

log = structlog.get_logger(__name__)

_unled = Trouble("partitions_without_leader", "partitions_led")

# Changelogs are read to their end whenever a partition changes hands, and grow by a record a transaction:
# small segments let the compaction keep them short. No time retention: an old record may be the only one.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 2**20),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
}
# Larger than what a query may be, so that those which are refused arrive, to be refused with a reason.
LARGE = {"max.message.bytes": str(3 * MAX_VALUE_BYTES)}
# A dead letter may be anything that a compressed batch brought in.
LARGEST = {"max.message.bytes": str(64 * 2**20)}


class TopicMismatch(Exception):  # noqa: N818 - a state of the world, not of the program
    """Topics that exist otherwise than they must; `problems` has one text for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it must be."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)

    @property
    def compacted(self) -> bool:
        """Whether only the newest record of each key is kept, for ever."""
        return self.config.get("cleanup.policy") == "compact"


def topic_specs(settings: Settings, catalogue: Catalogue) -> list[TopicSpec]:
    """Every topic of the router.

    Outcomes and reservations have a partition more than queries have: that of the overflow lane.
    """
    names, count = settings.topics, settings.partitions
    kept = {"retention.ms": str(KEPT_DAYS * DAY_MS)}
    specs = [
        TopicSpec(names.queries, count, LARGE),
        TopicSpec(names.unserved, count, LARGE),
        TopicSpec(names.dlq, 1, LARGEST),
        TopicSpec(names.outcomes, count + 1),
        TopicSpec(names.outcomes_dlq, 1, LARGEST),
        TopicSpec(names.answers, count, LARGE),
        TopicSpec(names.samples, 1, LARGE | kept),
        TopicSpec(names.overflow, 1, LARGE),
        TopicSpec(names.plans, 1, COMPACTED),
        TopicSpec(names.plan_log, 1, LARGE | kept),
        TopicSpec(names.ledger, count, COMPACTED),
        TopicSpec(names.overflow_ledger, 1, COMPACTED),
        TopicSpec(names.reservations, count + 1, LARGE | kept),
        TopicSpec(names.periods, 1, COMPACTED),
        TopicSpec(names.catalogue, 1, COMPACTED),
        TopicSpec(names.status, 1, COMPACTED),
        TopicSpec(names.replayed, 1, COMPACTED),
        TopicSpec(names.batches, 1, COMPACTED),
    ]
    return specs + [TopicSpec(names.llm(slug), count, LARGE) for slug in catalogue.slugs]


def existing_partitions(admin: AdminClient, seconds: float = 10.0) -> dict[str, int]:
    """How many partitions each topic of the cluster has, whether a broker leads them just now or not."""
    topics = admin.list_topics(timeout=seconds).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def without_leader(admin: AdminClient, names: Iterable[str], seconds: float = 10.0) -> dict[str, int]:
    """How many partitions of topics no broker leads, which passes when brokers are back; none is left out."""
    topics = admin.list_topics(timeout=seconds).topics
    counts = {
        name: sum(partition.leader < 0 for partition in topics[name].partitions.values())
        for name in names
        if name in topics
    }
    return {name: count for name, count in counts.items() if count}


def wait_for_leaders(admin: AdminClient, names: Iterable[str], pause: float = 2.0) -> None:
    """Until brokers lead all partitions of topics, however long it takes; until then the log says so."""
    names = list(names)
    while True:
        try:
            missing = without_leader(admin, names)
        except KafkaException as error:
            missing, reason = dict.fromkeys(names, 0), error.args[0].str()
        else:
            reason = f"{sum(missing.values())} partitions have no leader: brokers are away"
        if not missing:
            _unled.ended()
            return
        _unled.happened(topics=sorted(missing), reason=reason, retry_seconds=pause)
        time.sleep(pause)


def mismatches(specs: Iterable[TopicSpec], existing: dict[str, int]) -> list[str]:
    """What is wrong with topics that are there; nothing about those that are not."""
    return [
        f"topic {spec.name}: has {existing[spec.name]} partitions and must have {spec.partitions}; "
        f"set PORT_PARTITIONS to fit, or delete the topic when nothing in it is needed, "
        "or take another PORT_TOPIC_PREFIX"
        for spec in specs
        if spec.name in existing and existing[spec.name] != spec.partitions
    ]


def led_by_nobody(missing: dict[str, int]) -> list[str]:
    """What is told of `without_leader` where nobody waits for them."""
    return [
        f"topic {name}: {count} partitions have no leader; start the brokers that have them, or wait"
        for name, count in missing.items()
    ]


def not_compacted(admin: AdminClient, specs: Iterable[TopicSpec], existing: dict[str, int]) -> list[str]:
    """Topics that would not keep the newest record of each key for ever: budgets would be forgotten."""
    resources = {
        ConfigResource(ConfigResource.Type.TOPIC, spec.name): spec.name
        for spec in specs
        if spec.compacted and spec.name in existing
    }
    if not resources:
        return []
    found = []
    for resource, future in admin.describe_configs(list(resources), request_timeout=10).items():
        try:
            policy = future.result(10)["cleanup.policy"].value
        except (KafkaException, KeyError) as error:  # not everyone may ask
            log.warning("topic_config_unknown", topic=resources[resource], reason=str(error))
            continue
        if policy != "compact":
            found.append(
                f"topic {resources[resource]}: cleanup.policy is {policy} and must be compact; alter it"
            )
    return found


def create_topics(
    admin: AdminClient, specs: Iterable[TopicSpec], replication_factor: int = 1
) -> dict[str, bool]:
    """Creates those that are not there, and waits until all are visible.

    Returns
    -------
    dict of str to bool
        By topic: whether it was created now.

    Raises
    ------
    TopicMismatch
        A topic is there with another number of partitions, or forgets what must be kept; nothing is created
        then.
    """
    specs = list(specs)
    existing = existing_partitions(admin)
    if problems := mismatches(specs, existing) + not_compacted(admin, specs, existing):
        raise TopicMismatch(problems)
    missing = [spec for spec in specs if spec.name not in existing]
    if missing:
        replicas = {"min.insync.replicas": "2"} if replication_factor >= 3 else {}
        futures = admin.create_topics(
            [NewTopic(s.name, s.partitions, replication_factor, config=s.config | replicas) for s in missing],
            operation_timeout=VISIBLE_SECONDS,
        )
        others = set()
        for name, future in futures.items():
            try:
                future.result(VISIBLE_SECONDS)
                log.info("topic_created", topic=name)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TopicMismatch([f"topic {name}: was not created ({error.args[0].str()})"]) from error
                others.add(name)
        _wait_until_visible(admin, specs)
        # another one was faster, or the broker that was asked did not know them yet
        theirs = [spec for spec in specs if spec.name in others]
        if theirs and (problems := not_compacted(admin, theirs, existing_partitions(admin))):
            raise TopicMismatch(problems)
    return {spec.name: spec.name not in existing for spec in specs}


def _wait_until_visible(admin: AdminClient, specs: list[TopicSpec]) -> None:
    """Until every broker that is asked knows all topics with all their partitions, and all are led."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        existing = existing_partitions(admin)
        problems = [f"topic {spec.name}: is not visible" for spec in specs if spec.name not in existing]
        problems += mismatches(specs, existing)  # a new topic may show some of its partitions first
        problems += led_by_nobody(without_leader(admin, [spec.name for spec in specs]))
        if not problems:
            try:
                end_offsets(admin, [spec.name for spec in specs])  # leaders that are named may not lead yet
                return
            except ValueError as error:  # another broker was asked, which does not know them yet
                problems = [str(error)]
        if time.monotonic() > deadline:
            raise TopicMismatch(problems)
        time.sleep(0.05)


def end_offsets(admin: AdminClient, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """The end of every partition of some topics, by topic and partition.

    Raises
    ------
    ValueError
        A topic is not there.
    KafkaException
        The broker does not say.
    """
    existing = admin.list_topics(timeout=10).topics
    if missing := [name for name in topics if name not in existing]:
        raise ValueError(f"topic {missing[0]}: is not there; run `python -m streams topics create` first")
    left = [TopicPartition(name, number) for name in topics for number in existing[name].partitions]
    ends: dict[tuple[str, int], int] = {}
    deadline = time.monotonic() + VISIBLE_SECONDS
    while left:
        again = []
        asked = {place: OffsetSpec.latest() for place in left}
        for place, future in admin.list_offsets(asked, request_timeout=10).items():
            try:
                ends[(place.topic, place.partition)] = future.result(10).offset
            except KafkaException as error:
                if error.args[0].code() not in PASSING_ERRORS or time.monotonic() > deadline:
                    raise
                again.append(place)
        left = again
        time.sleep(0.05 if left else 0)
    return ends
