"""TLS, logins and access control lists, on a broker that requires them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import NewPartitions
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from infra.broker.__main__ import main as broker_main
from infra.broker.errors import MissingToolError
from producers.batch.__main__ import main as batch_main
from producers.batch.requests import validate_file
from streams.config.settings import Settings
from streams.kafka.acls import AclGrant, grants, missing_permissions
from streams.kafka.clients import (
    BrokerUnreachable,
    producer_config,
    reach_broker,
    reader_config,
    transactional_config,
)
from streams.kafka.group_offsets import forward_group, read_group_offsets
from streams.kafka.scanner import Scanner
from streams.kafka.topics import create_topics, topic_specs
from streams.kafka.transactions import FencedProducer
from streams.lanes.faust_clients import faust_credentials
from streams.messages.dead_letter import dead_letter_headers
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.operations.dead_letter_replay import DeadLetterReplayer
from streams.operations.dead_letters import read_letters
from streams.operations.partition_forwarding import PartitionForwarder
from streams.planner.catalogue_reader import CatalogueReader
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.secured_broker import PASSWORDS, Authority, Secured, secured_broker
from tests.end_to_end.small_dataset import make_small
from tests.end_to_end.worker_process import wait_for
from tests.require_broker import no_broker

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    try:
        with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
            yield broker
    except MissingToolError as error:
        no_broker(error)


Logins = dict[str, Callable[[Secured], dict[str, object]]]
LOGINS: Logins = {
    "PLAIN": lambda secured: secured.login("plain-user", "PLAIN"),
    "SCRAM-SHA-512": lambda secured: secured.login("router"),
    "certificate": lambda secured: secured.certified("certified"),
}
USERS = {"PLAIN": "plain-user", "SCRAM-SHA-512": "router", "certificate": "certified"}


@pytest.mark.parametrize("login", LOGINS)
async def test_client_of_every_kind_logs_in(secured: Secured, unique: Callable[[str], str], login: str):
    settings = Settings(**LOGINS[login](secured), app_id=unique("login"))  # type: ignore[arg-type]
    topic = unique("login")
    create_topic(secured, topic)
    secured.allow(
        USERS[login],
        [
            AclGrant("Topic", topic, "Read"),
            AclGrant("Topic", topic, "Write"),
            AclGrant("TransactionalId", settings.app_id, "Write", prefix=True),
        ],
    )

    def through_confluent() -> None:
        assert topic in reach_broker(settings, 20).list_topics(timeout=10).topics
        producer = FencedProducer(transactional_config(settings, "0"))
        producer.begin()
        producer.produce(topic, login.encode())
        producer.commit()

    await asyncio.get_running_loop().run_in_executor(None, through_confluent)
    # The consumer of Faust's driver.
    auth = credentials_to_aiokafka_auth(faust_credentials(settings), None)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=settings.brokers(), auto_offset_reset="earliest", **auth
    )
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), 30)
    finally:
        await consumer.stop()
    assert record.value == login.encode()


def create_topic(secured: Secured, name: str) -> None:
    from confluent_kafka.admin import NewTopic

    secured.admin.create_topics([NewTopic(name, 1)])[name].result(30)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sasl_password": "wrong-pass-a1b2"}, "Authentication failed"),
        ({"ssl_cafile": None}, "certificate verify failed"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": None}, "does not answer"),
    ],
    ids=["password", "authority", "no TLS"],
)
def test_rejected_login_reports_the_reason_without_secrets(
    secured: Secured, changes: dict[str, object], reason: str
):
    settings = Settings(**{**secured.login("router"), **changes})  # type: ignore[arg-type]

    with pytest.raises(BrokerUnreachable, match=reason) as caught:
        reach_broker(settings, 2)

    for secret in (*PASSWORDS.values(), "wrong-pass-a1b2"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("login", ["SCRAM-SHA-512", "certificate"])
def test_broker_command_logs_in_to_an_external_broker(
    secured: Secured, login: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    variables = LOGINS[login](secured)
    servers = str(variables.pop("bootstrap_servers"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    monkeypatch.setenv("PORT_HORIZON", "invalid, but of no concern to a broker")
    for name, value in variables.items():
        monkeypatch.setenv(f"PORT_{name.upper()}", str(value))

    assert broker_main(["up"]) == 0
    assert broker_main(["status"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"KAFKA_BOOTSTRAP_SERVERS={servers}\ngiven ")
    assert not [secret for secret in PASSWORDS.values() if secret in shown.out + shown.err]

    monkeypatch.delenv("PORT_SSL_CAFILE")
    if login == "certificate":
        monkeypatch.delenv("PORT_SSL_CERTFILE")
        assert broker_main(["up"]) == 1
        assert "ssl_certfile, ssl_keyfile: one is set without the other" in capsys.readouterr().err
    else:
        assert broker_main(["up"]) == 1
        assert "does not answer over SASL_SSL: start the broker" in capsys.readouterr().err


def test_certificate_of_another_authority_is_rejected(secured: Secured, tmp_path: Path):
    key, certificate, _ = Authority(tmp_path, "another").issue("certified")
    variables = {**secured.certified("certified"), "ssl_certfile": certificate, "ssl_keyfile": key}

    with pytest.raises(BrokerUnreachable):
        reach_broker(Settings(**variables), 2)  # type: ignore[arg-type]


@pytest.fixture
def router(secured: Secured, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Router]:
    """A router whose test uses the open listener, which permits everything."""
    small = make_small(tmp_path / "small", "open_llm_v2", 120, 400, models=3)
    router = Router(secured.open, small, tmp_path, unique("acl"), partitions=2, web_port=0)
    yield router
    router.close()
    router.delete_topics()


def test_worker_with_exactly_its_grants_routes_and_logs_missing_ones(secured: Secured, router: Router):
    required = grants(router.settings, router.catalogue, "worker")
    missing = AclGrant("Topic", router.topics.llm(router.catalogue.slugs[0]), "Write")
    assert missing in required
    user = "router"
    secured.allow(user, [grant for grant in required if grant != missing])
    token = "web-token-3c9d"  # unused because the port is local, but it must not be logged
    worker = router.start(**secured.login(user), log_level="debug", web_token=token, ready=True)
    events = wait_for(lambda: list(worker.events("not_allowed")), 30, "the missing grant is logged")
    assert {(entry["topic"], entry["operation"]) for entry in events} == {(missing.name, "Write")}
    assert events[0]["user"] == user

    # Lanes route until a query for this LLM comes; then they wait, and no query is lost.
    router.send(range(120))
    wait_for(lambda: worker.logged("lane_reloads"), 60, "a transaction was rejected")
    before = len(list(worker.events("not_allowed")))
    wait_for(lambda: len(list(worker.events("not_allowed"))) > before, 30, "it is logged again")
    assert len(router.landed) < 120
    secured.allow(user, [missing])
    router.all_landed()
    verdict = assert_whole(router)
    assert verdict.queries == 120
    assert any(landings[0].model == router.catalogue.names[0] for landings in router.landed.values())
    assert worker.alive

    # The worker cannot write to topics of operators and producers.
    settings = Settings(**secured.login(user), topic_prefix=f"{router.name}.", app_id=router.name)  # type: ignore[arg-type]
    assert denied(settings, router.topics.catalogue)
    assert denied(settings, router.topics.queries)
    assert worker.stop() == 0

    log = worker.log.read_text()
    for secret in (*PASSWORDS.values(), token):
        assert secret not in log


def denied(settings: Settings, topic: str) -> bool:
    """Return whether producing to a topic is denied."""
    errors: list[KafkaError] = []
    producer = Producer(producer_config(settings))
    producer.produce(topic, b"x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(15)
    return (
        bool(errors) and errors[0] is not None and errors[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    )


def test_fleet_and_producer_have_only_the_grants_of_their_roles(secured: Secured, router: Router):
    settings = Settings(
        **secured.login("stranger"),
        topic_prefix=f"{router.name}.",
        app_id=router.name,
        catalogue=router.settings.catalogue,
    )  # type: ignore[arg-type]
    llm = router.topics.llm(router.catalogue.slugs[0])
    assert denied(settings, router.topics.queries)
    secured.allow("stranger", grants(settings, router.catalogue, "producer"))
    wait_for(lambda: not denied(settings, router.topics.queries), 20, "it may send queries", pause=0.5)
    assert denied(settings, router.topics.outcomes)

    secured.allow("stranger", grants(settings, router.catalogue, "fleet"))
    admin = reach_broker(settings, 20)
    missing = missing_permissions(admin, grants(settings, router.catalogue, "fleet"))
    assert missing == []
    assert AclGrant("Topic", llm, "Write") in missing_permissions(
        admin, grants(settings, router.catalogue, "worker")
    )
    # A fleet reads list prices from the catalogue, which may change while it runs.
    follower = CatalogueReader(settings, lambda version: None)
    follower.start()
    try:
        assert follower.wait(30)
        assert follower.failure is None
    finally:
        follower.stop()
    producer = FencedProducer(transactional_config(settings, "fleet-x"))
    consumer = Consumer(reader_config(settings, f"{router.name}-fleet-x"))
    try:
        consumer.subscribe([llm])
        assert consumer.poll(0.1) is None
        producer.begin()
        producer.produce(router.topics.outcomes, b"{}", partition=0)
        producer.commit()
        producer.begin()
        producer.produce(llm, b"{}")
        with pytest.raises(KafkaException):
            producer.commit()
    finally:
        producer.close()
        consumer.close()


def test_operator_creates_the_topics(secured: Secured, router: Router, unique: Callable[[str], str]):
    settings = Settings(
        **secured.certified("operator"),
        topic_prefix=f"{router.name}.",
        app_id=router.name,
        partitions=2,
        catalogue=router.settings.catalogue,
    )  # type: ignore[arg-type]
    secured.allow("operator", grants(settings, router.catalogue, "operator"))
    admin = reach_broker(settings, 20)
    created = create_topics(admin, topic_specs(settings, router.catalogue))
    assert set(created.values()) == {False}  # all existed, and the operator may check their configuration


def test_operator_replays_dead_letters_to_their_topics(secured: Secured, router: Router):
    settings = Settings(
        **secured.certified("replayer"),
        topic_prefix=f"{router.name}.",
        app_id=router.name,
        partitions=2,
        catalogue=router.settings.catalogue,
    )  # type: ignore[arg-type]
    secured.allow("replayer", grants(settings, router.catalogue, "operator"))
    origins = [router.topics.queries, router.topics.overflow, router.topics.llm(router.catalogue.slugs[0])]
    for number, topic in enumerate(origins):
        reason_headers = dead_letter_headers(
            None, RejectedMessage(RejectionReason.NULL_VALUE, "value"), topic, 0, number, 1000
        )
        router.producer.produce(router.topics.dlq, b"%d" % number, headers=reason_headers)
    router.producer.flush(30)
    reach_broker(settings, 20)
    replayer = DeadLetterReplayer(settings, 100.0)
    with Scanner(reader_config(settings)) as scanner:
        try:
            done = replayer.run(read_letters(scanner, router.topics.dlq))
        finally:
            replayer.close()
        assert (done.sent, done.failed) == (3, [])
        back = [[message.value() for message in scanner.read(scanner.places(topic))] for topic in origins]
    assert back == [[b"0"], [b"1"], [b"2"]]


def test_an_operator_forwards_added_partitions_and_a_viewer_sees_it(secured: Secured, router: Router):
    topic = router.topics.queries
    secured.admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)

    def connected(name: str, role: str) -> Settings:
        secured.allow(name, grants(router.settings, router.catalogue, role))
        return Settings(
            **secured.certified(name), topic_prefix=f"{router.name}.", app_id=router.name, partitions=2
        )  # type: ignore[arg-type]

    settings = connected("forwarder", "operator")
    producer = Producer(producer_config(router.settings))
    for number in range(10):
        producer.produce(topic, b"%d" % number, partition=2 + number % 2)
    assert producer.flush(30) == 0
    reach_broker(settings, 20)
    assert PartitionForwarder(settings, 2).run().forwarded == 10
    group = forward_group(router.name)
    for role in ("viewer", "worker"):
        config = reader_config(connected(f"{role}-of-offsets", role))
        assert read_group_offsets(config, group, topic, [2, 3]) == {2: 5, 3: 5}


def test_batch_is_sent_and_collected_with_only_the_grants_of_its_role(
    secured: Secured,
    router: Router,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    variables = {
        **secured.certified("batcher"),
        "topic_prefix": f"{router.name}.",
        "app_id": router.name,
        "catalogue": router.settings.catalogue,
        "partitions": 2,
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"PORT_{name.upper()}", str(value))
    body = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    (tmp_path / "requests.jsonl").write_bytes(orjson.dumps({"custom_id": "one", "body": body}))
    command = [str(tmp_path / "requests.jsonl"), "--answers", str(tmp_path / "answers.jsonl"), "--quiet"]
    assert batch_main([*command, "--no-wait"]) == 1
    assert capsys.readouterr().err.startswith("error: ")

    settings = Settings()
    secured.allow("batcher", grants(settings, router.catalogue, "batch"))
    wait_for(lambda: batch_main([*command, "--no-wait"]) == 0, 30, "it may send", pause=0.5)
    batch = validate_file(tmp_path / "requests.jsonl")
    answer = {"id": f"{batch.name}-one", "model": "a", "answer": "scattering", "cost": 0.001}
    router.producer.produce(router.topics.answers, orjson.dumps(answer), answer["id"])
    router.producer.flush(30)
    assert batch_main([*command, "--patience", "60"]) == 0
    assert b"scattering" in (tmp_path / "answers.jsonl").read_bytes()
    assert denied(settings, router.topics.outcomes)
    with Scanner(reader_config(router.settings)) as scanner:
        sent = list(scanner.read(scanner.places(router.topics.queries)))
    assert len(sent) == 1
