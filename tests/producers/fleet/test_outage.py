"""Fleets and a broker that goes away: every query is answered and settled once, and every worker ends.

Needs Apache Kafka.
"""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from infra.broker.native import NativeCluster
from producers.fleet.__main__ import SHUTDOWN_SECONDS
from streams.config.settings import Settings
from streams.kafka.topics import create_topics, topic_specs
from tests.conftest import ClusterStarter
from tests.producers.fleet.chat_server import ChatServer
from tests.producers.fleet.fleet_process import fleet, group_members, wait_until
from tests.producers.fleet.routed_topic import RoutedTopic, assert_settled_once, process
from tests.read_topics import read_to_end

PARTITIONS = 3
DRAIN = "2"
OUTAGE = 8.0
"""Seconds; longer than the session timeout, so that the group has lost its members."""
MARGIN = 15.0
"""Seconds that a busy machine may take to end a process."""


@pytest.fixture
def cluster(start_cluster: ClusterStarter) -> NativeCluster:
    return start_cluster(1)


@pytest.fixture
def stream(
    cluster: NativeCluster,
    unique: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> RoutedTopic:
    name, servers = unique("outage"), cluster.bootstrap_servers
    (tmp_path / "catalogue.yaml").write_text(
        "budget_usd: 1\nmodels:\n- {name: vendor/llm, input_price: 2.0, output_price: 10.0}\n"
    )
    for variable, value in {
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "PORT_APP_ID": name,
        "PORT_PARTITIONS": str(PARTITIONS),
        "PORT_CATALOGUE": str(tmp_path / "catalogue.yaml"),
        "PORT_TRANSACTION_TIMEOUT_SECONDS": "5",
        "PORT_SESSION_TIMEOUT_SECONDS": "6",
    }.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    specs = topic_specs(settings, settings.read_catalogue())
    create_topics(AdminClient({"bootstrap.servers": servers, "log_level": 0}), specs)
    return RoutedTopic(settings, lambda topics: read_to_end(servers, topics))


def test_fleet_broker_outages_are_survived_and_sigterm_ends_all(
    cluster: NativeCluster, stream: RoutedTopic, server: ChatServer
) -> None:
    prompts = iter(f"p{i}" for i in range(200))
    sent: list[str] = []

    def send(count: int) -> None:
        chosen = list(islice(prompts, count))
        sent.extend(chosen)
        stream.put(*chosen)

    def in_flight(count: int) -> None:
        """Send queries and wait until the endpoint has all and holds its answers back."""
        wait_until(lambda: group_members(stream.settings) == [1, 1, 1], "each has a partition")
        server.hold_all = True
        send(count)
        wait_until(lambda: all(server.asked[prompt] for prompt in sent[-count:]), "all are in flight")

    with ExitStack() as stack:
        workers = [stack.enter_context(process(server, "--drain-seconds", DRAIN)) for _ in range(3)]
        wait_until(lambda: group_members(stream.settings) == [1, 1, 1], "each has a partition")
        send(12)
        stream.wait_for_answers(12)

        # stopped between two answers: some are in flight, and come while the broker is away
        in_flight(12)
        cluster.stop(1)
        server.release()
        time.sleep(OUTAGE)
        cluster.start(1)
        stream.wait_for_answers(24)

        # killed within a commit, soon after it had come back
        in_flight(12)
        cluster.freeze(1)
        server.release()
        time.sleep(1.0)
        cluster.kill(1)
        time.sleep(OUTAGE)
        cluster.start(1)
        stream.wait_for_answers(36)
        assert [worker.poll() for worker in workers] == [None, None, None]

        # stopped during the outage: queries in flight cannot be committed
        in_flight(6)
        cluster.stop(1)
        server.release()
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        statuses = [worker.wait(float(DRAIN) + SHUTDOWN_SECONDS + MARGIN) for worker in workers]
        assert set(statuses) <= {0, 1}
        cluster.start(1)
        with fleet(stream.settings, server):
            stream.wait_for_answers(len(sent))
    assert_settled_once(stream, sent)
