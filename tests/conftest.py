"""Fixtures of all tests: one Kafka broker per run, unique names and topics, data sets."""

import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import settings as hypothesis_settings

from infra.broker.docker import COMPOSE_FILE, SERVICE, require_docker, require_image
from infra.broker.errors import MissingToolError
from infra.broker.external import check_external, external_broker
from infra.broker.native import JVM_VARIABLE, NativeCluster, native_cluster
from infra.broker.ports import free_ports
from infra.broker.readiness import wait_until_answers
from infra.broker.state_file import BrokerState
from streams.kafka.topic_config import read_topic_configs
from tests.end_to_end.worker_process import wait_for
from tests.read_topics import read_to_end
from tests.require_broker import no_broker

ROOT = Path(__file__).resolve().parents[1]

# No deadline per example: the default of 200 ms fails on a busy machine.
hypothesis_settings.register_profile("port-router", deadline=None)
hypothesis_settings.load_profile("port-router")

# Brokers of tests live for seconds: the second compiler would cost more processor time than it saves.
os.environ.setdefault(JVM_VARIABLE, "-XX:+UseG1GC -XX:TieredStopAtLevel=1")

TopicMaker = Callable[..., str]
TopicReader = Callable[..., list[Message]]
ClusterStarter = Callable[..., NativeCluster]


# --- the order of the run -----------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, put files with brokers or long time limits first, then those with most tests.

    They wait more than they compute, and some are long: at the end, the other processes would idle.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    tests = Counter(item.path for item in items)
    first = {
        item.path
        for item in items
        if not {"kafka", "start_cluster"}.isdisjoint(getattr(item, "fixturenames", ()))
        or item.get_closest_marker("timeout")
    }
    items.sort(key=lambda item: (item.path not in first, item.path not in first and -tests[item.path]))


# --- the broker ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(COMPOSE_FILE)


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return [f"up --detach --wait {SERVICE}"]


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[BrokerState]:
    """The run's broker: the one in the environment, or one in Docker, or a native Apache Kafka."""
    outside = external_broker(os.environ)
    if outside is not None:
        check_external(outside)
        yield outside
        return
    try:
        require_docker()
        require_image()
    except MissingToolError as no_docker:
        try:
            with native_cluster() as cluster:
                yield BrokerState(cluster.name, "native", cluster.bootstrap_servers)
        except MissingToolError as no_native:
            no_broker(f"{no_native}; and {no_docker}")
        return
    with pytest.MonkeyPatch.context() as patch:
        port = free_ports(1)[0]
        patch.setenv("KAFKA_PORT", str(port))
        request.getfixturevalue("docker_services")
        wait_until_answers(f"127.0.0.1:{port}")
        yield BrokerState("pytest", "docker", f"127.0.0.1:{port}")


@pytest.fixture(scope="session")
def bootstrap_servers(kafka: BrokerState) -> str:
    return kafka.bootstrap_servers


@pytest.fixture(scope="session")
def admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers})


@pytest.fixture
def start_cluster() -> Iterator[ClusterStarter]:
    """Start native clusters for one test, which may kill, freeze and secure them.

    The arguments are those of `native_cluster`.
    """
    with ExitStack() as clusters:

        def start(brokers: int = 1, **options: object) -> NativeCluster:
            try:
                return clusters.enter_context(native_cluster(brokers, **options))  # type: ignore[arg-type]
            except MissingToolError as error:
                no_broker(error)

        yield start


# --- names, topics, records ---------------------------------------------------------------------------------


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Return a function that makes names unique among all tests and runs."""
    return lambda prefix: f"{prefix}-{secrets.token_hex(4)}"


@pytest.fixture
def make_topic(admin: AdminClient, unique: Callable[[str], str]) -> Iterator[TopicMaker]:
    """Create topics for one test: `make_topic(prefix, partitions, **config)` returns the name."""
    names: list[str] = []

    def make(prefix: str = "topic", partitions: int = 1, **config: str) -> str:
        name = unique(prefix)
        settings = {key.replace("_", "."): value for key, value in config.items()}
        create_topic(admin, name, partitions, settings)
        names.append(name)
        return name

    yield make
    if names:
        for future in admin.delete_topics(names).values():
            future.result(30)


def create_topic(admin: AdminClient, name: str, partitions: int, config: dict[str, str]) -> None:
    """Create a topic, and wait until the broker knows its settings: it answers a moment earlier."""
    admin.create_topics([NewTopic(name, partitions, config=config)])[name].result(30)
    wait_for(lambda: read_topic_configs(admin, [name]), 30, f"the broker knows {name}")


@pytest.fixture
def read_topics(bootstrap_servers: str) -> TopicReader:
    """Read topics from beginning to current end: `read_topics(names, isolation=, timeout=)`."""

    def read(names: Sequence[str], isolation: str = "read_committed", timeout: float = 60.0) -> list[Message]:
        return read_to_end(bootstrap_servers, names, isolation, timeout)

    return read


# --- data sets ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """Find a file that only tests use, such as `data/open_llm_v2.parquet`; skip the test if it is missing."""
    folder = Path(os.environ.get("PORT_SHARED", ROOT.parent / "shared"))

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no {name} in {folder} (PORT_SHARED names that folder)")
        return path

    return find


@pytest.fixture(autouse=True)
def _restore_variables() -> Iterator[None]:
    """Restore variables after each test, because commands that read a file of variables change them."""
    before = {name: value for name, value in os.environ.items() if name.startswith(("PORT_", "KAFKA_"))}
    yield
    for name in [name for name in os.environ if name.startswith(("PORT_", "KAFKA_"))]:
        if name not in before:
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Restore logging after each test, because commands set it up for the whole process."""
    root, handlers, level = logging.root, logging.root.handlers[:], logging.root.level
    configuration = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.configure(**configuration)
