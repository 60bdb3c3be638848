"""Topics, servers and endpoint clients of fleet tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from confluent_kafka.admin import AdminClient

from producers.fleet.endpoint import EndpointClient, Limits
from streams.config.settings import Settings
from streams.kafka.topics import create_topics, existing_partitions, topic_specs
from tests.conftest import TopicReader
from tests.producers.fleet.chat_server import (
    ChatServer,
    chat_server,
)
from tests.producers.fleet.routed_topic import RoutedTopic


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture
def settings(
    bootstrap_servers: str,
    admin: AdminClient,
    unique: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    """Create the topics of a test, and set the environment for worker processes."""
    name = unique("fleet")
    (tmp_path / "catalogue.yaml").write_text(
        "budget_usd: 1\nmodels:\n- {name: vendor/llm, input_price: 2.0, output_price: 10.0}\n- other\n"
    )
    for variable, value in {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "PORT_TOPIC_PREFIX": f"{name}.",
        "PORT_APP_ID": name,
        "PORT_PARTITIONS": "2",
        "PORT_CATALOGUE": str(tmp_path / "catalogue.yaml"),
        "PORT_TRANSACTION_TIMEOUT_SECONDS": "5",
        "PORT_SESSION_TIMEOUT_SECONDS": "6",
    }.items():
        monkeypatch.setenv(variable, value)
    fleet_settings = Settings()
    create_topics(admin, topic_specs(fleet_settings, fleet_settings.read_catalogue()))
    yield fleet_settings
    topics = [topic for topic in existing_partitions(admin) if topic.startswith(f"{name}.")]
    for future in admin.delete_topics(topics).values():
        future.result(30)


@pytest.fixture
def stream(settings: Settings, read_topics: TopicReader) -> RoutedTopic:
    return RoutedTopic(settings, read_topics)


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def make_client(server: ChatServer, pauses: list[float]) -> Callable[..., EndpointClient]:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    def make(**limits: float) -> EndpointClient:
        client = openai.AsyncOpenAI(api_key="secret", base_url=server.url, max_retries=0, timeout=None)
        return EndpointClient(client, Limits(**limits), sleep, draw=lambda: 1.0)  # type: ignore[arg-type]

    return make
