"""What every test may ask for: one Kafka broker a run, names and topics of its own, data sets."""

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker import MissingToolError, NativeCluster, Record, native_cluster
from infra.broker.docker import COMPOSE_FILE, SERVICE, require_docker, require_image
from infra.broker.given import check_given, given
from infra.broker.ports import free_ports
from infra.broker.ready import wait_until_answers
from tests.missing_broker import no_broker
from tests.reading import read_to_end

ROOT = Path(__file__).resolve().parents[1]

TopicMaker = Callable[..., str]
TopicReader = Callable[..., list[Message]]
ClusterStarter = Callable[..., NativeCluster]


# --- the broker ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(COMPOSE_FILE)


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return [f"up --detach --wait {SERVICE}"]


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[Record]:
    """The run's broker: the given one, else Docker's where it can be had, else a native Apache Kafka."""
    outside = given(os.environ)
    if outside is not None:
        check_given(outside)
        yield outside
        return
    try:
        require_docker()
        require_image()
    except MissingToolError as no_docker:
        try:
            with native_cluster() as cluster:
                yield Record(cluster.name, "native", cluster.bootstrap_servers)
        except MissingToolError as no_native:
            no_broker(f"{no_native}; and {no_docker}")
        return
    with pytest.MonkeyPatch.context() as patch:
        port = free_ports(1)[0]
        patch.setenv("KAFKA_PORT", str(port))
        request.getfixturevalue("docker_services")
        wait_until_answers(f"127.0.0.1:{port}")
        yield Record("pytest", "docker", f"127.0.0.1:{port}")


@pytest.fixture(scope="session")
def bootstrap_servers(kafka: Record) -> str:
    return kafka.bootstrap_servers


@pytest.fixture(scope="session")
def admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers})


@pytest.fixture
def start_cluster() -> Iterator[ClusterStarter]:
    """Start native clusters of the test's own, to be killed, frozen and secured.

    Takes what `native_cluster` takes.
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
    """Name topics, groups and transactions so that no other test, nor another run, has the same."""
    return lambda prefix: f"{prefix}-{secrets.token_hex(4)}"


@pytest.fixture
def make_topic(admin: AdminClient, unique: Callable[[str], str]) -> Iterator[TopicMaker]:
    """Create topics that end with the test: `make_topic(prefix, partitions, **config)` gives the name."""
    made: list[str] = []

    def make(prefix: str = "topic", partitions: int = 1, **config: str) -> str:
        name = unique(prefix)
        settings = {key.replace("_", "."): value for key, value in config.items()}
        create_topic(admin, name, partitions, settings)
        made.append(name)
        return name

    yield make
    if made:
        for future in admin.delete_topics(made).values():
            future.result(30)


def create_topic(admin: AdminClient, name: str, partitions: int, config: dict[str, str]) -> None:
    admin.create_topics([NewTopic(name, partitions, config=config)])[name].result(30)


@pytest.fixture
def read_topics(bootstrap_servers: str) -> TopicReader:
    """Read topics from their beginning to where they end now: `read_topics(names, isolation=, timeout=)`."""

    def read(names: Sequence[str], isolation: str = "read_committed", timeout: float = 60.0) -> list[Message]:
        return read_to_end(bootstrap_servers, names, isolation, timeout)

    return read


# --- data sets ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """Find a file that tests may use but the product does not need, e.g. `data/open_llm_v2.parquet`."""
    folder = Path(os.environ.get("PORT_SHARED", ROOT.parent / "shared"))

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no {name} in {folder} (PORT_SHARED names that folder)")
        return path

    return find


@pytest.fixture(autouse=True)
def _variables_of_others() -> Iterator[None]:
    """A command that reads a file of variables sets them for the whole process: not for the next test."""
    before = {name: value for name, value in os.environ.items() if name.startswith(("PORT_", "KAFKA_"))}
    yield
    for name in [name for name in os.environ if name.startswith(("PORT_", "KAFKA_"))]:
        if name not in before:
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _logs_of_others() -> Iterator[None]:
    """A command that sets up logging does so for the whole process, to a stream that ends with its test."""
    root, handlers, level = logging.root, logging.root.handlers[:], logging.root.level
    configuration = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.configure(**configuration)
