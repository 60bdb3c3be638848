"""The topics on a real broker: created once, refused when they are otherwise."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    PartitionMetadata,
    TopicMetadata,
)
from structlog.testing import capture_logs

from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from streams.__main__ import main
from streams.config.settings import Settings
from streams.config.topic_names import Topics
from streams.kafka.clients import BATCH_BYTES
from streams.kafka.topic_config import MIN_BATCH_BYTES, read_topic_configs
from streams.kafka.topics import (
    TopicMismatch,
    TopicSpec,
    count_leaderless,
    create_topics,
    existing_partitions,
    topic_problems,
    topic_specs,
    wait_for_leaders,
)
from streams.lanes.backlog import MAX_BATCH_BYTES
from tests.conftest import create_topic
from tests.end_to_end.worker_process import wait_for

CATALOGUE = Catalogue((Model("a/b"), Model("c")), budget_usd=1.0)


@pytest.fixture
def prefix(unique: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[str]:
    name = unique("topics") + "."
    yield name
    if "admin" in request.fixturenames:
        admin: AdminClient = request.getfixturevalue("admin")
        topics = [topic for topic in existing_partitions(admin) if topic.startswith(name)]
        for future in (admin.delete_topics(topics) if topics else {}).values():
            future.result(30)


def specs(prefix: str, partitions: int = 3) -> list[TopicSpec]:
    settings = Settings(
        topic_prefix=prefix, partitions=partitions, bootstrap_servers="unused:1", decision_log=True
    )
    return topic_specs(settings, CATALOGUE)


def test_topic_specs_partitions_and_retention():
    by_name = {spec.name: spec for spec in specs("", partitions=3)}
    partitions = {name: spec.partitions for name, spec in by_name.items()}

    as_queries = ["queries", "queries.unserved", "router.ledger", "llm.a-b", "llm.c"]
    assert [partitions[name] for name in as_queries] == [3] * 5
    # the lane of overflow has one too
    assert (partitions["outcomes"], partitions["router.reservations"]) == (4, 4)
    alone = ["queries.dlq", "router.samples", "router.plans", "router.overflow", "router.ledger.overflow"]
    assert [partitions[name] for name in alone] == [1] * 5
    names = ["router.plans", "router.ledger", "router.ledger.overflow", "router.periods", "router.catalogue"]
    assert all(by_name[name].compacted for name in names)
    assert not [name for name, spec in by_name.items() if spec.compacted and "retention.ms" in spec.config]


def test_topic_specs_every_name_has_a_topic():
    names = {field.name for field in dataclasses.fields(Topics)} - {"prefix"}

    assert {getattr(Topics(), name) for name in names} <= {spec.name for spec in specs("")}


class Metadata:
    """In place of an admin client: metadata as a broker returns it, one request after the other."""

    def __init__(self, *looks: dict[str, list[int]] | KafkaException) -> None:
        self._looks = list(looks)

    def list_topics(self, timeout: float) -> ClusterMetadata:
        look = self._looks.pop(0)
        if isinstance(look, KafkaException):
            raise look
        metadata = ClusterMetadata()
        metadata.topics = {name: TopicMetadata() for name in look}
        for name, leaders in look.items():
            metadata.topics[name].partitions = {number: PartitionMetadata() for number in range(len(leaders))}
            for number, leader in enumerate(leaders):
                metadata.topics[name].partitions[number].leader = leader
        return metadata


def test_existing_partitions_counts_partitions_without_leader():
    admin: Any = Metadata(*[{"a": [1, -1, 2], "b": [1], "c": [-1]}] * 2)

    assert existing_partitions(admin) == {"a": 3, "b": 1, "c": 1}
    assert count_leaderless(admin, ["a", "b", "z"]) == {"a": 1}


def test_wait_for_leaders_only_of_named_topics():
    away = KafkaException(KafkaError(KafkaError._TRANSPORT))
    admin: Any = Metadata({"a": [-1, 1], "b": [-1]}, away, {"a": [1, 1], "b": [-1]})

    with capture_logs() as logs:
        wait_for_leaders(admin, ["a"], pause=0)

    assert [entry["event"] for entry in logs] == ["partitions_without_leader", "partitions_led"]
    assert logs[0]["topics"] == ["a"]


def test_create_topics_twice_creates_once(admin: AdminClient, prefix: str):
    all_specs = specs(prefix)

    first = create_topics(admin, all_specs)
    existing = existing_partitions(admin)
    second = create_topics(admin, all_specs)

    assert set(first.values()) == {True}
    assert set(second.values()) == {False}
    assert {spec.name: existing[spec.name] for spec in all_specs} == {
        spec.name: spec.partitions for spec in all_specs
    }
    ledger = ConfigResource(ConfigResource.Type.TOPIC, prefix + "router.ledger")
    config = admin.describe_configs([ledger])[ledger].result(10)
    assert config["cleanup.policy"].value == "compact"


def test_create_topics_creates_only_missing_ones(admin: AdminClient, prefix: str):
    create_topics(admin, specs(prefix)[:3])

    created_now = create_topics(admin, specs(prefix))

    assert [name.removeprefix(prefix) for name, created in created_now.items() if not created] == [
        "queries",
        "queries.unserved",
        "queries.dlq",
    ]


def test_create_topics_other_partition_count_raises_and_creates_none(admin: AdminClient, prefix: str):
    create_topics(admin, specs(prefix)[:1])

    with pytest.raises(TopicMismatch) as caught:
        create_topics(admin, specs(prefix, partitions=5))

    (problem,) = caught.value.problems
    assert f"topic {prefix}queries: has 3 partitions and must have 5" in problem
    assert "PORT_PARTITIONS" in problem
    assert [name for name in existing_partitions(admin) if name.startswith(prefix)] == [prefix + "queries"]


def test_create_topics_ledger_without_compaction_raises(admin: AdminClient, prefix: str):
    name = prefix + "router.ledger"
    create_topic(admin, name, 3, {})

    with pytest.raises(TopicMismatch, match=r"cleanup\.policy is delete and must be compact"):
        create_topics(admin, specs(prefix))


def test_create_topics_raises_the_batch_size_of_an_existing_topic(admin: AdminClient, prefix: str):
    name = prefix + "llm.a-b"
    small = {"cleanup.policy": "delete", "max.message.bytes": "1048588"}
    create_topic(admin, name, 3, small)
    all_specs = [spec for spec in specs(prefix) if spec.name == name]
    (problem,) = topic_problems(all_specs, {name: 3}, read_topic_configs(admin, [name]))
    assert f"topic {name}: max.message.bytes is 1048588 and must be at least 8388608" in problem
    assert "topics create" in problem

    create_topics(admin, all_specs)

    def size() -> str | None:
        return read_topic_configs(admin, [name])[name]["max.message.bytes"]

    wait_for(lambda: size() == "12582912", 30, "the broker applies the new setting")
    assert topic_problems(all_specs, {name: 3}, read_topic_configs(admin, [name])) == []


class Unalterable(AdminClient):
    """An admin client without the permission to alter topics."""

    def incremental_alter_configs(
        self, resources: list[ConfigResource], **options: object
    ) -> dict[ConfigResource, "Future[None]"]:
        future: Future[None] = Future()
        future.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
        return dict.fromkeys(resources, future)


def test_create_topics_small_batch_size_that_cannot_be_altered_raises(bootstrap_servers: str, prefix: str):
    admin = Unalterable({"bootstrap.servers": bootstrap_servers})
    name = prefix + "llm.a-b"
    small = {"cleanup.policy": "delete", "max.message.bytes": "1048588"}
    create_topic(admin, name, 3, small)

    with pytest.raises(TopicMismatch, match=r"max\.message\.bytes is 1048588"):
        create_topics(admin, specs(prefix))

    assert [topic for topic in existing_partitions(admin) if topic.startswith(prefix)] == [name]
    admin.delete_topics([name])[name].result(30)


def test_topic_specs_every_topic_takes_the_largest_batch_of_a_transaction():
    sizes = {spec.name: int(spec.config["max.message.bytes"]) for spec in specs("")}

    assert MAX_BATCH_BYTES < BATCH_BYTES < MIN_BATCH_BYTES <= min(sizes.values())
    assert sizes["queries.dlq"] == 64 * 2**20


def test_topics_command_creates_and_lists_topics(
    bootstrap_servers: str,
    admin: AdminClient,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a/b, c]\n")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers)
    monkeypatch.setenv("PORT_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    monkeypatch.setenv("PORT_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("PORT_PARTITIONS", "2")
    monkeypatch.setenv("PORT_DECISION_LOG", "true")

    assert main(["topics", "list"]) == 1
    assert f"{prefix}queries" in capsys.readouterr().out
    assert main(["topics", "create"]) == 0
    assert capsys.readouterr().out.count("created") == len(specs(""))
    assert main(["topics", "create"]) == 0
    assert capsys.readouterr().out.count("exists") == len(specs(""))
    assert main(["topics", "list"]) == 0
    monkeypatch.setenv("PORT_PARTITIONS", "3")
    assert main(["topics", "create"]) == 1
    assert "has 2 partitions and must have 3" in capsys.readouterr().err


def test_topics_command_without_broker_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    assert main(["topics", "create"]) == 1
    assert "127.0.0.1:1 does not answer" in capsys.readouterr().err
