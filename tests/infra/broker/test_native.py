"""Native Apache Kafka: three brokers of which one may die or freeze, and listeners with passwords."""

import socket
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.native import NativeCluster, native_cluster, start_native
from infra.broker.readiness import count_brokers, wait_until_answers
from infra.broker.state_file import folder_of, load_state
from tests.conftest import ClusterStarter
from tests.read_topics import read_to_end
from tests.require_broker import no_broker

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def three() -> Iterator[NativeCluster]:
    try:
        # Kafka's 9 s until a silent broker is replaced are patience for large clusters.
        quick = {"broker.session.timeout.ms": "4000", "broker.heartbeat.interval.ms": "500"}
        with native_cluster(3, properties=quick) as cluster:
            yield cluster
    except MissingToolError as error:
        no_broker(error)


def produce(servers: str, topic: str, value: bytes) -> None:
    """Produce one record to all in-sync replicas, or raise."""
    failures: list[KafkaError] = []
    producer = Producer(
        {"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True, "log_level": 0}
    )
    producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(60) == 0
    if failures:
        raise KafkaException(failures[0])


def test_native_cluster_records_survive_broker_failures(three: NativeCluster, unique) -> None:
    topic, servers = unique("survivors"), three.bootstrap_servers
    assert three.node_ids == [1, 2, 3]
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 3)])[topic].result(30)
    produce(servers, topic, b"before")

    three.kill(1)
    assert not three.alive(1)
    produce(servers, topic, b"one dead")
    three.restart(1)
    assert three.alive(1)
    assert count_brokers(servers) == 3

    three.freeze(2)
    assert three.alive(2)
    produce(servers, topic, b"one frozen")
    three.thaw(2)
    wait_until_answers(servers, brokers=3)

    three.restart(3)
    produce(servers, topic, b"after")
    values = {record.value() for record in read_to_end(servers, [topic])}
    assert values == {b"before", b"one dead", b"one frozen", b"after"}


def test_native_cluster_three_brokers_require_two_in_sync(three: NativeCluster, unique) -> None:
    topic = unique("settings")
    admin = AdminClient({"bootstrap.servers": three.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)
    deadline = time.monotonic() + 30
    # the broker that is asked may not have heard of the topic yet
    while 0 not in (described := admin.list_topics(topic, timeout=30).topics[topic]).partitions:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(described.partitions[0].replicas) == 3
    assert "min.insync.replicas=2" in (folder_of(three.name) / "broker-1" / "server.properties").read_text()


def test_native_cluster_listener_checks_passwords(start_cluster: ClusterStarter, unique) -> None:
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_ann='secret';"
    cluster = start_cluster(
        listeners={"CLIENTS": "SASL_PLAINTEXT"},
        properties={
            "listener.name.clients.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": login,
        },
    )
    ann = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "ann"}
    secured = cluster.addresses("CLIENTS")
    assert count_brokers(secured, timeout=10, client={**ann, "sasl.password": "secret"}) == 1
    assert count_brokers(secured, timeout=2, client={**ann, "sasl.password": "wrong"}) == 0


def test_native_cluster_failed_start_is_reported_and_leaves_no_files(unique) -> None:
    name = unique("broken")
    try:
        with pytest.raises(BrokerError, match="num\\.network\\.threads"):
            start_native(name, properties={"num.network.threads": "none"})
    except MissingToolError as error:
        no_broker(error)
    assert load_state(name) is None
    assert not folder_of(name).exists()


def test_native_cluster_end_frees_its_ports(start_cluster: ClusterStarter) -> None:
    try:
        with native_cluster() as cluster:
            host, port = cluster.bootstrap_servers.split(":")
    except MissingToolError as error:
        no_broker(error)
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
    assert not folder_of(cluster.name).exists()


@pytest.mark.parametrize("brokers", [0, 2, 4])
def test_start_native_other_sizes_are_rejected(brokers: int) -> None:
    with pytest.raises(BrokerError, match=f"brokers {brokers}: a native cluster has 1 or 3"):
        start_native("never", brokers)
