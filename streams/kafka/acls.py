"""Access control lists: the permissions of each role, and a check for missing ones."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation

from routing.budgets.catalogue import Catalogue
from streams.config.log_throttling import RecurringProblem
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient
from streams.kafka.group_offsets import forward_group

log = structlog.get_logger(__name__)

_unknown = RecurringProblem("rights_not_known", "rights_known")

ROLES = {
    "worker": "runs the router",
    "shadow": "decides queries by other settings, without any effect",
    "operator": "creates topics, changes the catalogue, replays dead letters, looks at everything",
    "producer": "sends queries",
    "fleet": "answers the queries of LLMs, reports outcomes and returns queries",
    "batch": "sends files of requests and collects their answers",
    "gateway": "serves the HTTP API",
    "viewer": "reads everything: check, bill, explain, the replay's report",
}

_OPTIONS = {"Topic": "--topic", "Group": "--group", "TransactionalId": "--transactional-id"}


@dataclass(frozen=True, order=True)
class AclGrant:
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
        """Return the arguments of Kafka's `kafka-acls.sh`."""
        resource = ["--cluster"] if self.resource == "Cluster" else [_OPTIONS[self.resource], self.name]
        pattern = ["--resource-pattern-type", "prefixed"] if self.prefix else []
        words = [
            "--add",
            "--allow-principal",
            f"User:{user}",
            "--operation",
            self.operation,
            *resource,
            *pattern,
        ]
        return shlex.join(words)


def grants(settings: Settings, catalogue: Catalogue, role: str) -> list[AclGrant]:
    """Return the permissions that a role needs, for the names in the settings.

    Raises
    ------
    KeyError
        There is no such role.
    """
    permissions = {
        "worker": _worker,
        "shadow": _shadow,
        "operator": _operator,
        "producer": _producer,
        "fleet": _fleet,
        "batch": _batch,
        "gateway": _gateway,
        "viewer": _viewer,
    }[role](settings, [settings.topics.llm(slug) for slug in catalogue.slugs])
    return sorted(set(permissions))


def _worker(settings: Settings, llms: list[str]) -> list[AclGrant]:
    topics = settings.topics
    both = (
        topics.dlq,
        topics.outcomes_dlq,
        topics.unserved,
        topics.samples,
        topics.plans,
        topics.plan_log,
        topics.overflow,
        topics.ledger,
        topics.overflow_ledger,
        topics.reservations,
        topics.periods,
        topics.budget_events,
        topics.status,
        *((topics.decisions,) if settings.decision_log else ()),
        *llms,
    )
    inputs = (topics.queries, topics.outcomes, topics.returned, topics.catalogue)
    return [
        *_on_topics("Read", (*inputs, *both)),
        # that none is kept in a way that loses records
        *_on_topics("DescribeConfigs", (*inputs, *both)),
        *_on_topics("Write", both),
        AclGrant("Group", settings.app_id, "Read"),
        _reader(settings),
        _forwarded(settings),
        AclGrant("TransactionalId", f"{settings.app_id}-", "Write", prefix=True),
    ]


def _shadow(settings: Settings, llms: list[str]) -> list[AclGrant]:
    return [
        *_on_topics("Read", (settings.topics.queries,)),
        *_on_topics("Write", (settings.topics.shadow,)),
        AclGrant("Group", f"{settings.app_id}-shadow", "Read"),
    ]


def _operator(settings: Settings, llms: list[str]) -> list[AclGrant]:
    topics = settings.topics
    return [
        *_viewer(settings, llms),
        AclGrant("Cluster", "kafka-cluster", "Create"),
        AclGrant("Cluster", "kafka-cluster", "DescribeConfigs"),
        *_on_topics("DescribeConfigs", (*_all(settings), *llms)),
        *_on_topics("AlterConfigs", (*_all(settings), *llms)),
        *_on_topics("Write", (topics.catalogue, topics.replayed)),
        # a query on an added partition is forwarded to another
        AclGrant("Group", forward_group(settings.app_id), "Read"),
        # a dead letter is replayed to where it came from
        *_on_topics("Write", (topics.queries, topics.outcomes, topics.returned, topics.overflow, *llms)),
        AclGrant("TransactionalId", f"{settings.app_id}-", "Write", prefix=True),
    ]


def _producer(settings: Settings, llms: list[str]) -> list[AclGrant]:
    return _on_topics("Write", (settings.topics.queries,))


def _fleet(settings: Settings, llms: list[str]) -> list[AclGrant]:
    topics = settings.topics
    return [
        *_on_topics("Read", (topics.catalogue, *llms)),
        *_on_topics("Write", (topics.answers, topics.outcomes, topics.returned, topics.dlq)),
        AclGrant("Group", f"{settings.app_id}-fleet-", "Read", prefix=True),
        _reader(settings),
        AclGrant("TransactionalId", f"{settings.app_id}-fleet-", "Write", prefix=True),
    ]


def _batch(settings: Settings, llms: list[str]) -> list[AclGrant]:
    topics = settings.topics
    return [
        *_on_topics("Write", (topics.queries, topics.batches)),
        *_on_topics("Read", (topics.batches, topics.answers, topics.unserved, topics.dlq)),
        AclGrant("Group", f"{settings.app_id}-batch", "Read"),
        _reader(settings),
        AclGrant("TransactionalId", f"{settings.app_id}-batch-", "Write", prefix=True),
    ]


def _gateway(settings: Settings, llms: list[str]) -> list[AclGrant]:
    topics = settings.topics
    own = (topics.gateway_objects, topics.gateway_files)
    return [
        # batches are sent and collected as by the batch command
        *_batch(settings, llms),
        *_on_topics("Write", own),
        *_on_topics("Read", (topics.queries, topics.catalogue, *own)),
        AclGrant("Group", f"{settings.app_id}-gateway", "Read"),
    ]


def _reader(settings: Settings) -> AclGrant:
    """Return the permission on the readers' group: librdkafka looks up its coordinator."""
    return AclGrant("Group", f"{settings.app_id}-reader", "Read")


def _forwarded(settings: Settings) -> AclGrant:
    """Offsets up to which queries on added partitions were forwarded: others are reported as unread."""
    return AclGrant("Group", forward_group(settings.app_id), "Describe")


def _viewer(settings: Settings, llms: list[str]) -> list[AclGrant]:
    return [
        *_on_topics("Read", (*_all(settings), *llms)),
        AclGrant("Group", f"{settings.app_id}-", "Read", prefix=True),
        # how far workers have read, past transaction markers
        AclGrant("Group", settings.app_id, "Describe"),
        _forwarded(settings),
    ]


def _all(settings: Settings) -> tuple[str, ...]:
    return tuple(name for key, name in vars(settings.topics).items() if key != "prefix")


def _on_topics(operation: str, names: Iterable[str]) -> list[AclGrant]:
    return [AclGrant("Topic", name, operation) for name in names]


def missing_permissions(admin: AdminClient, required: Iterable[AclGrant]) -> list[AclGrant]:
    """Return the permissions on topics that this client lacks.

    A broker without an authorizer grants everything. Without an answer, no permission counts as missing.
    """
    by_topic: dict[str, list[AclGrant]] = {}
    for grant in required:
        if grant.resource == "Topic":
            by_topic.setdefault(grant.name, []).append(grant)
    try:
        described = admin.describe_topics(
            TopicCollection(list(by_topic)), include_authorized_operations=True, request_timeout=10
        )
    except KafkaException as error:
        _unknown.occurred(reason=str(error))
        return []
    refused, unknown = [], {}
    for name, future in described.items():
        try:
            allowed = future.result(11).authorized_operations
        except (KafkaException, TimeoutError) as error:
            unknown[name] = repr(error)
            continue
        if allowed is not None:
            refused += [grant for grant in by_topic[name] if not _is_in(grant, allowed)]
    if unknown:
        _unknown.occurred(topics=len(unknown), reason=next(iter(unknown.values())))
    else:
        _unknown.resolved()
    return sorted(refused)


def _is_in(grant: AclGrant, allowed: Iterable[AclOperation]) -> bool:
    return grant.operation.upper() in {operation.name.replace("_", "") for operation in allowed}


def log_missing_permissions(admin: AdminClient, settings: Settings, catalogue: Catalogue) -> list[AclGrant]:
    """Log a worker's missing permissions by topic, and return them."""
    refused = missing_permissions(admin, grants(settings, catalogue, "worker"))
    user: Mapping[str, Any] = {"user": settings.sasl_username} if settings.sasl_username else {}
    for grant in refused:
        log.error(
            "not_allowed",
            topic=grant.name,
            operation=grant.operation,
            **user,
            fix="grant it; the worker looks again by itself, and nothing is lost until then",
        )
    return refused
