"""What each role may do on the broker, and what a client finds it may not."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from routing.catalogue import Catalogue
from streams.settings import Settings
from streams.troubles import Trouble

log = structlog.get_logger(__name__)

_unknown = Trouble("rights_not_known", "rights_known")

ROLES = {
    "worker": "runs the router",
    "operator": "creates topics, changes the catalogue, replays dead letters, looks at everything",
    "producer": "sends queries",
    "fleet": "answers the queries of LLMs and tells outcomes",
    "batch": "sends files of requests and collects their answers",
    "viewer": "reads everything: check, bill, explain, the replay's report",
}

_OPTIONS = {"Topic": "--topic", "Group": "--group", "TransactionalId": "--transactional-id"}


@dataclass(frozen=True, order=True)
class Grant:
    """One line of an access control list.

    Parameters
    ----------
    resource : {"Topic", "Group", "TransactionalId", "Cluster"}
    name : str
    operation : str
        As Kafka names it. Read and Write bring Describe with them.
    prefix : bool
        The name is the beginning of names.
    """

    resource: str
    name: str
    operation: str
    prefix: bool = False

    def command(self, user: str) -> str:
        """The same as arguments of Kafka's `kafka-acls.sh`."""
        where = ["--cluster"] if self.resource == "Cluster" else [_OPTIONS[self.resource], self.name]
        pattern = ["--resource-pattern-type", "prefixed"] if self.prefix else []
        words = [
            "--add",
            "--allow-principal",
            f"User:{user}",
            "--operation",
            self.operation,
            *where,
            *pattern,
        ]
        return shlex.join(words)


def grants(settings: Settings, catalogue: Catalogue, role: str) -> list[Grant]:
    """What a role needs, and nothing else; topics and names are the settings'.

    Raises
    ------
    KeyError
        There is no such role.
    """
    found = {
        "worker": _worker, "operator": _operator, "producer": _producer, "fleet": _fleet, "batch": _batch,
        "viewer": _viewer,
    }[role](settings, [settings.topics.llm(slug) for slug in catalogue.slugs])  # fmt: skip
    return sorted(set(found))


def _worker(settings: Settings, llms: list[str]) -> list[Grant]:
    topics = settings.topics
    both = (
        topics.dlq, topics.outcomes_dlq, topics.unserved, topics.samples, topics.plans, topics.plan_log,
        topics.overflow, topics.ledger, topics.overflow_ledger, topics.reservations, topics.periods,
        topics.status, *llms,
    )  # fmt: skip
    return [
        *_on_topics("Read", (topics.queries, topics.outcomes, topics.catalogue, *both)),
        *_on_topics("Write", both),
        Grant("Group", settings.app_id, "Read"),
        _reader(settings),
        Grant("TransactionalId", f"{settings.app_id}-", "Write", prefix=True),
    ]


def _operator(settings: Settings, llms: list[str]) -> list[Grant]:
    topics = settings.topics
    return [
        *_viewer(settings, llms),
        Grant("Cluster", "kafka-cluster", "Create"),
        Grant("Cluster", "kafka-cluster", "DescribeConfigs"),
        *_on_topics("DescribeConfigs", (*_all(settings), *llms)),
        *_on_topics("Write", (topics.catalogue, topics.replayed)),
        # a dead letter is replayed to where it came from
        *_on_topics("Write", (topics.queries, topics.outcomes, topics.overflow, *llms)),
        Grant("TransactionalId", f"{settings.app_id}-", "Write", prefix=True),
    ]


def _producer(settings: Settings, llms: list[str]) -> list[Grant]:
    return _on_topics("Write", (settings.topics.queries,))


def _fleet(settings: Settings, llms: list[str]) -> list[Grant]:
    topics = settings.topics
    return [
        *_on_topics("Read", (topics.catalogue, *llms)),
        *_on_topics("Write", (topics.answers, topics.outcomes, topics.dlq)),
        Grant("Group", f"{settings.app_id}-fleet-", "Read", prefix=True),
        _reader(settings),
        Grant("TransactionalId", f"{settings.app_id}-fleet-", "Write", prefix=True),
    ]


def _batch(settings: Settings, llms: list[str]) -> list[Grant]:
    topics = settings.topics
    return [
        *_on_topics("Write", (topics.queries, topics.batches)),
        *_on_topics("Read", (topics.batches, topics.answers, topics.unserved, topics.dlq)),
        Grant("Group", f"{settings.app_id}-batch", "Read"),
        _reader(settings),
        Grant("TransactionalId", f"{settings.app_id}-batch-", "Write", prefix=True),
    ]


def _reader(settings: Settings) -> Grant:
    """Readers assign themselves partitions, yet librdkafka asks for their group's coordinator."""
    return Grant("Group", f"{settings.app_id}-reader", "Read")


def _viewer(settings: Settings, llms: list[str]) -> list[Grant]:
    return [
        *_on_topics("Read", (*_all(settings), *llms)),
        Grant("Group", f"{settings.app_id}-", "Read", prefix=True),
    ]


def _all(settings: Settings) -> tuple[str, ...]:
    return tuple(name for key, name in vars(settings.topics).items() if key != "prefix")


def _on_topics(operation: str, names: Iterable[str]) -> list[Grant]:
    return [Grant("Topic", name, operation) for name in names]


def refused_topics(admin: AdminClient, wanted: Iterable[Grant]) -> list[Grant]:
    """Those of the wanted rights on topics that the broker does not grant to this client.

    A broker without an authorizer grants everything; one that does not answer refuses nothing.
    """
    by_topic: dict[str, list[Grant]] = {}
    for grant in wanted:
        if grant.resource == "Topic":
            by_topic.setdefault(grant.name, []).append(grant)
    try:
        told = admin.describe_topics(
            TopicCollection(list(by_topic)), include_authorized_operations=True, request_timeout=10
        )
    except KafkaException as error:
        _unknown.happened(reason=str(error))
        return []
    refused, unknown = [], {}
    for name, future in told.items():
        try:
            allowed = future.result(11).authorized_operations
        except (KafkaException, TimeoutError) as error:
            unknown[name] = repr(error)
            continue
        if allowed is not None:
            refused += [grant for grant in by_topic[name] if not _is_in(grant, allowed)]
    if unknown:
        _unknown.happened(topics=len(unknown), reason=next(iter(unknown.values())))
    else:
        _unknown.ended()
    return sorted(refused)


def _is_in(grant: Grant, allowed: Iterable[AclOperation]) -> bool:
    return grant.operation.upper() in {operation.name for operation in allowed}


def tell_refused(admin: AdminClient, settings: Settings, catalogue: Catalogue) -> list[Grant]:
    """Say in the log, topic by topic, what a worker may not do although it must; returns it."""
    refused = refused_topics(admin, grants(settings, catalogue, "worker"))
    user: Mapping[str, Any] = {"user": settings.sasl_username} if settings.sasl_username else {}
    for grant in refused:
        log.error(
            "not_allowed", topic=grant.name, operation=grant.operation, **user,
            fix="grant it; the worker looks again by itself, and nothing is lost until then",
        )  # fmt: skip
    return refused
