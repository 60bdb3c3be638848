"""Kafka brokers for this machine: native Apache Kafka, Docker Compose's, an embedded one, a given one."""

from infra.broker.docker import docker_broker
from infra.broker.embedded import embedded_broker
from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.native import NativeCluster, native_cluster
from infra.broker.record import Record

__all__ = [
    "BrokerError",
    "MissingToolError",
    "NativeCluster",
    "Record",
    "docker_broker",
    "embedded_broker",
    "native_cluster",
]
