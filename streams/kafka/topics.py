"""Topic specifications: partitions and retention of each topic, creation and checks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic, OffsetSpec

from routing.budgets.catalogue import Catalogue
from streams.config.log_throttling import RecurringProblem
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient
from streams.kafka.offsets import PASSING_ERRORS
from streams.kafka.topic_config import (
    COMPACTED,
    COMPACTED_DAYS,
    KEPT_DAYS,
    LARGEST,
    STREAM_DAYS,
    TopicSpec,
    config_problems,
    kept_for,
    outdated_settings,
    read_topic_configs,
    set_config,
    size_problems,
)

VISIBLE_SECONDS = 30.0
ADDED_GUIDE = 'see "More partitions" in docs/operations.md'
log = structlog.get_logger(__name__)

_unled = RecurringProblem("partitions_without_leader", "partitions_led")


class TopicMismatch(Exception):  # noqa: N818 - a state of the world, not of the program
    """Existing topics that do not match their specification; `problems` has a text for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def topic_specs(settings: Settings, catalogue: Catalogue) -> list[TopicSpec]:
    """Return the specifications of all topics.

    Outcomes, returned queries and reservations have one partition more than queries, for the overflow lane.
    """
    names, count = settings.topics, settings.partitions
    history, stream = kept_for(KEPT_DAYS), kept_for(STREAM_DAYS)
    foreign = kept_for(STREAM_DAYS, clock="LogAppendTime")
    specs = [
        TopicSpec(names.queries, count, foreign),
        TopicSpec(names.unserved, count, history),
        TopicSpec(names.dlq, 1, history | LARGEST),
        TopicSpec(names.outcomes, count + 1, foreign),
        TopicSpec(names.returned, count + 1, foreign),
        TopicSpec(names.outcomes_dlq, 1, history | LARGEST),
        TopicSpec(names.answers, count, foreign),
        TopicSpec(names.samples, 1, history),
        TopicSpec(names.overflow, 1, stream),
        TopicSpec(names.plans, 1, COMPACTED),
        TopicSpec(names.plan_log, 1, history),
        TopicSpec(names.ledger, count, COMPACTED),
        TopicSpec(names.overflow_ledger, 1, COMPACTED),
        TopicSpec(names.reservations, count + 1, history),
        TopicSpec(names.periods, 1, COMPACTED),
        TopicSpec(names.budget_events, 1, history),
        TopicSpec(names.catalogue, 1, COMPACTED),
        TopicSpec(names.status, 1, COMPACTED),
        TopicSpec(names.shadow, 1, history),
        TopicSpec(names.replayed, 1, COMPACTED),
        TopicSpec(names.batches, 1, COMPACTED),
        TopicSpec(names.gateway_objects, 1, COMPACTED_DAYS),
        TopicSpec(names.gateway_files, count, history),
    ]
    if settings.decision_log:
        specs.append(TopicSpec(names.decisions, count, history))
    llm_count = settings.llm_topic_partitions
    # fleets read all partitions, so more of them do no harm
    return specs + [
        TopicSpec(names.llm(slug), llm_count, stream, more_allowed=True) for slug in catalogue.slugs
    ]


def input_partitions(settings: Settings) -> dict[str, int]:
    """Return the input topics of lanes, and the number of partitions with a lane."""
    names = settings.topics
    return {names.queries: settings.partitions, names.overflow: 1, names.samples: 1}


def worker_partitions(settings: Settings, catalogue: Catalogue, overflow: bool) -> dict[str, int]:
    """Return the topics that a worker needs, and the number of partitions that it uses."""
    names = settings.topics
    without = set() if overflow else {names.overflow, names.overflow_ledger}
    gateway = {names.gateway_objects, names.gateway_files}
    others = {names.replayed, names.shadow, names.batches, names.answers, *gateway, *without}
    specs = topic_specs(settings, catalogue)
    return {spec.name: spec.partitions for spec in specs if spec.name not in others}


def existing_partitions(admin: AdminClient, seconds: float = 10.0) -> dict[str, int]:
    """Return the number of partitions of each topic of the cluster, with or without a leader."""
    topics = admin.list_topics(timeout=seconds).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def count_leaderless(admin: AdminClient, names: Iterable[str], seconds: float = 10.0) -> dict[str, int]:
    """Return the number of leaderless partitions by topic, without topics that have none."""
    topics = admin.list_topics(timeout=seconds).topics
    counts = {
        name: sum(partition.leader < 0 for partition in topics[name].partitions.values())
        for name in names
        if name in topics
    }
    return {name: count for name, count in counts.items() if count}


def wait_for_leaders(admin: AdminClient, names: Iterable[str], pause: float = 2.0) -> None:
    """Wait without limit until all partitions of topics have a leader, and log the wait."""
    names = list(names)
    while True:
        try:
            missing = count_leaderless(admin, names)
        except KafkaException as error:
            missing, reason = dict.fromkeys(names, 0), error.args[0].str()
        else:
            reason = f"{sum(missing.values())} partitions have no leader: brokers are away"
        if not missing:
            _unled.resolved()
            return
        _unled.occurred(topics=sorted(missing), reason=reason, retry_seconds=pause)
        time.sleep(pause)


def partition_mismatches(specs: Iterable[TopicSpec], existing: dict[str, int]) -> list[str]:
    """Return a text for each existing topic with too few partitions."""
    return [
        f"topic {spec.name}: has {existing[spec.name]} partitions and must have {spec.partitions}; "
        f"set PORT_{'LLM_' if spec.more_allowed else ''}PARTITIONS to fit, or delete the topic when nothing "
        "in it is needed, "
        "or take another PORT_TOPIC_PREFIX"
        for spec in specs
        if spec.name in existing and existing[spec.name] < spec.partitions
    ]


def topic_problems(
    specs: Sequence[TopicSpec], existing: dict[str, int], configs: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return a text for each existing topic that has too few partitions, or would lose or refuse records.

    Parameters
    ----------
    specs : sequence of TopicSpec
    existing : dict of str to int
        Partitions by topic.
    configs : mapping of str to mapping
        From `read_topic_configs`.
    """
    return (
        partition_mismatches(specs, existing)
        + config_problems(specs, configs)
        + size_problems(specs, configs)
    )


def added_partitions(specs: Iterable[TopicSpec], existing: dict[str, int]) -> list[str]:
    """Return a text for each topic with partitions that have no lane and are never read."""
    return [
        f"topic {spec.name}: has {existing[spec.name]} partitions, the router uses the first "
        f"{spec.partitions}; {ADDED_GUIDE}"
        for spec in specs
        if not spec.more_allowed and spec.name in existing and existing[spec.name] > spec.partitions
    ]


def leaderless_problems(missing: dict[str, int]) -> list[str]:
    """Return a text for each topic with leaderless partitions."""
    return [
        f"topic {name}: {count} partitions have no leader; start the brokers that have them, or wait"
        for name, count in missing.items()
    ]


def create_topics(
    admin: AdminClient, specs: Iterable[TopicSpec], replication_factor: int = 1
) -> dict[str, bool]:
    """Create missing topics, and wait until all are visible.

    Returns
    -------
    dict of str to bool
        By topic: whether it was created now.

    Raises
    ------
    TopicMismatch
        A topic is there with too few partitions, forgets what must be kept, or refuses large batches and
        cannot be altered; nothing is created then.
    """
    specs = list(specs)
    existing = existing_partitions(admin)
    configs = read_topic_configs(admin, [spec.name for spec in specs if spec.name in existing])
    if problems := partition_mismatches(specs, existing) + config_problems(specs, configs):
        raise TopicMismatch(problems)
    # not read again: a broker may show the former settings for a moment
    unchanged = set_config(admin, outdated_settings(specs, configs))
    if problems := size_problems(specs, {name: configs[name] for name in unchanged}):
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
        other_specs = [spec for spec in specs if spec.name in others]
        if problems := config_problems(other_specs, read_topic_configs(admin, others)):
            raise TopicMismatch(problems)
    return {spec.name: spec.name not in existing for spec in specs}


def _wait_until_visible(admin: AdminClient, specs: list[TopicSpec]) -> None:
    """Wait until the queried brokers know all topics with all partitions and their leaders."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        existing = existing_partitions(admin)
        problems = [f"topic {spec.name}: is not visible" for spec in specs if spec.name not in existing]
        problems += partition_mismatches(specs, existing)  # a new topic may show some of its partitions first
        problems += leaderless_problems(count_leaderless(admin, [spec.name for spec in specs]))
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
    """Return the end offsets of topics, by topic and partition.

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
        retried = []
        latest = {place: OffsetSpec.latest() for place in left}
        for place, future in admin.list_offsets(latest, request_timeout=10).items():
            try:
                ends[(place.topic, place.partition)] = future.result(10).offset
            except KafkaException as error:
                if error.args[0].code() not in PASSING_ERRORS or time.monotonic() > deadline:
                    raise
                retried.append(place)
        left = retried
        time.sleep(0.05 if left else 0)
    return ends
