"""Topics and users as resources of the Strimzi operator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import yaml

from streams.kafka.acls import AclGrant
from streams.kafka.topic_config import TopicSpec

API_VERSION = "kafka.strimzi.io/v1beta2"
MIN_IN_SYNC_FROM_REPLICAS = 3
"""Replication factor from which two replicas must have a message before it counts as written."""

_RESOURCES = {"Topic": "topic", "Group": "group", "TransactionalId": "transactionalId", "Cluster": "cluster"}


def topic_resource(spec: TopicSpec, replicas: int) -> dict[str, Any]:
    """Return a topic as a KafkaTopic; the label `strimzi.io/cluster` has to be added."""
    in_sync = {"min.insync.replicas": "2"} if replicas >= MIN_IN_SYNC_FROM_REPLICAS else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "KafkaTopic",
        "metadata": {"name": resource_name(spec.name)},
        "spec": {
            "topicName": spec.name,
            "partitions": spec.partitions,
            "replicas": replicas,
            "config": dict(spec.config) | in_sync,
        },
    }


def user_resource(user: str, permissions: Iterable[AclGrant], authentication: str) -> dict[str, Any]:
    """Return a role's permissions as a KafkaUser.

    Parameters
    ----------
    user : str
    permissions : iterable of AclGrant
    authentication : {"scram-sha-512", "tls"}
    """
    operations: dict[tuple[str, str, bool], list[str]] = {}
    for grant in permissions:
        operations.setdefault((grant.resource, grant.name, grant.prefix), []).append(grant.operation)
    acls = []
    for (resource, name, prefix), allowed in operations.items():
        acl_resource: dict[str, Any] = {"type": _RESOURCES[resource]}
        if resource != "Cluster":
            acl_resource |= {"name": name, "patternType": "prefix" if prefix else "literal"}
        acls.append({"resource": acl_resource, "operations": sorted(allowed)})
    return {
        "apiVersion": API_VERSION,
        "kind": "KafkaUser",
        "metadata": {"name": resource_name(user)},
        "spec": {
            "authentication": {"type": authentication},
            "authorization": {"type": "simple", "acls": acls},
        },
    }


def resource_name(name: str) -> str:
    """Return a name that Kubernetes accepts; a changed name gets a digest, so that names stay distinct.

    Examples
    --------
    >>> resource_name("queries"), resource_name("llm.GPT_4")
    ('queries', 'llm.gpt-4-a6117e')
    """
    plain = re.sub(r"[^a-z0-9.-]", "-", name.lower()).strip(".-")
    plain = re.sub(r"\.(?=[.-])|(?<=-)\.", "-", plain)
    return plain if plain == name else f"{plain}-{blake2b(name.encode(), digest_size=3).hexdigest()}"


def to_yaml(resources: Sequence[dict[str, Any]]) -> str:
    """Return resources as YAML documents."""
    return yaml.safe_dump_all(resources, explicit_start=True, sort_keys=False, allow_unicode=True)
