"""TLS, logins and access control lists, on a broker that asks for them."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from infra.broker import MissingToolError
from infra.broker.__main__ import main as broker_main
from producers.batch import main as batch_main
from producers.batch_requests import look_through
from streams.catalogue_versions import CatalogueReader
from streams.commands import acls
from streams.config_check import check_config
from streams.dead_letters import dead_letter_headers
from streams.kafka import (
    BrokerUnreachable,
    client_config,
    faust_credentials,
    producer_config,
    reach_broker,
    reader_config,
    transactional_config,
)
from streams.letters import read_letters
from streams.logs import configure_logs
from streams.messages import Refused
from streams.permissions import ROLES, Grant, grants, refused_topics
from streams.replaying import Replayer
from streams.scanning import Scanner
from streams.settings import Settings
from streams.topics import create_topics, topic_specs
from streams.transactions import FencedProducer
from tests.conftest import ROOT
from tests.end_to_end.data import make_small
from tests.end_to_end.routers import Router, assert_whole
from tests.end_to_end.workers import wait_for
from tests.missing_broker import no_broker
from tests.streams.secured import PASSWORDS, Authority, Secured, secured_broker

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    try:
        with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
            yield broker
    except MissingToolError as error:
        no_broker(error)


Ways = dict[str, Callable[[Secured], dict[str, object]]]
WAYS: Ways = {
    "PLAIN": lambda secured: secured.login("plain-user", "PLAIN"),
    "SCRAM-SHA-512": lambda secured: secured.login("router"),
    "certificate": lambda secured: secured.certified("certified"),
}
USERS = {"PLAIN": "plain-user", "SCRAM-SHA-512": "router", "certificate": "certified"}


@pytest.mark.parametrize("way", WAYS)
async def test_every_kind_of_client_logs_in(secured: Secured, unique: Callable[[str], str], way: str):
    settings = Settings(**WAYS[way](secured), app_id=unique("login"))  # type: ignore[arg-type]
    topic = unique("login")
    create_topic(secured, topic)
    secured.allow(
        USERS[way],
        [
            Grant("Topic", topic, "Read"), Grant("Topic", topic, "Write"),
            Grant("TransactionalId", settings.app_id, "Write", prefix=True),
        ],
    )  # fmt: skip

    def through_confluent() -> None:
        assert topic in reach_broker(settings, 20).list_topics(timeout=10).topics
        producer = FencedProducer(transactional_config(settings, "0"))
        producer.begin()
        producer.produce(topic, way.encode())
        producer.commit()

    await asyncio.get_running_loop().run_in_executor(None, through_confluent)
    # as Faust's driver makes its consumer
    auth = credentials_to_aiokafka_auth(faust_credentials(settings), None)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=settings.brokers(), auto_offset_reset="earliest", **auth
    )
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), 30)
    finally:
        await consumer.stop()
    assert record.value == way.encode()


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
def test_who_is_not_let_in_is_told_why_and_no_secret_with_it(
    secured: Secured, changes: dict[str, object], reason: str
):
    settings = Settings(**{**secured.login("router"), **changes})  # type: ignore[arg-type]

    with pytest.raises(BrokerUnreachable, match=reason) as told:
        reach_broker(settings, 2)

    for secret in (*PASSWORDS.values(), "wrong-pass-a1b2"):
        assert secret not in str(told.value)


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "certificate"])
def test_the_given_broker_is_asked_as_it_wants_to_be(
    secured: Secured, way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    told = WAYS[way](secured)
    servers = str(told.pop("bootstrap_servers"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    monkeypatch.setenv("PORT_HORIZON", "nonsense that is no business of a broker's")
    for name, value in told.items():
        monkeypatch.setenv(f"PORT_{name.upper()}", str(value))

    assert broker_main(["up"]) == 0
    assert broker_main(["status"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"KAFKA_BOOTSTRAP_SERVERS={servers}\ngiven ")
    assert not [secret for secret in PASSWORDS.values() if secret in shown.out + shown.err]

    monkeypatch.delenv("PORT_SSL_CAFILE")
    if way == "certificate":
        monkeypatch.delenv("PORT_SSL_CERTFILE")
        assert broker_main(["up"]) == 1
        assert "ssl_certfile, ssl_keyfile: one is set without the other" in capsys.readouterr().err
    else:
        assert broker_main(["up"]) == 1
        assert "does not answer over SASL_SSL: start it, correct it" in capsys.readouterr().err


def test_a_certificate_of_another_authority_is_not_believed(secured: Secured, tmp_path: Path):
    key, certificate, _ = Authority(tmp_path, "somebody").issue("certified")
    given = {**secured.certified("certified"), "ssl_certfile": certificate, "ssl_keyfile": key}

    with pytest.raises(BrokerUnreachable):
        reach_broker(Settings(**given), 2)  # type: ignore[arg-type]


@pytest.fixture
def router(secured: Secured, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Router]:
    """The test itself comes by the open listener, where it may do everything."""
    small = make_small(tmp_path / "small", "open_llm_v2", 120, 400, models=3)
    router = Router(secured.open, small, tmp_path, unique("acl"), partitions=2, web_port=0)
    yield router
    router.close()
    router.delete_topics()


def test_a_worker_with_its_rights_and_no_more_routes_and_one_without_says_which_it_lacks(
    secured: Secured, router: Router
):
    wanted = grants(router.settings, router.catalogue, "worker")
    closed = Grant("Topic", router.topics.llm(router.catalogue.slugs[0]), "Write")
    assert closed in wanted
    user = "router"
    secured.allow(user, [grant for grant in wanted if grant != closed])
    token = "web-token-3c9d"  # of no use: the port is local, but it must not be logged either
    worker = router.start(**secured.login(user), log_level="debug", web_token=token, ready=True)
    told = wait_for(lambda: list(worker.events("not_allowed")), 30, "it says what it lacks")
    assert {(entry["topic"], entry["operation"]) for entry in told} == {(closed.name, "Write")}
    assert told[0]["user"] == user

    # queries for the other LLMs go on until one for this LLM comes; then its lane waits, and nothing is lost
    router.send(range(120))
    wait_for(lambda: worker.logged("lane_reloads"), 60, "a transaction was refused")
    before = len(list(worker.events("not_allowed")))
    wait_for(lambda: len(list(worker.events("not_allowed"))) > before, 30, "it says so again while it lasts")
    assert len(router.landed) < 120
    secured.allow(user, [closed])
    router.all_landed()
    verdict = assert_whole(router)
    assert verdict.queries == 120
    assert any(landings[0].model == router.catalogue.names[0] for landings in router.landed.values())
    assert worker.alive

    # what it may not, it cannot: read a topic of others, write where only operators may
    settings = Settings(**secured.login(user), topic_prefix=f"{router.name}.", app_id=router.name)  # type: ignore[arg-type]
    assert denied(settings, router.topics.catalogue)
    assert denied(settings, router.topics.queries)
    assert worker.stop() == 0

    log = worker.log.read_text()
    for secret in (*PASSWORDS.values(), token):
        assert secret not in log


def denied(settings: Settings, topic: str) -> bool:
    """Producing there is refused."""
    errors: list[KafkaError] = []
    producer = Producer(producer_config(settings))
    producer.produce(topic, b"x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(15)
    return (
        bool(errors) and errors[0] is not None and errors[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    )


def test_a_fleet_and_a_producer_may_do_their_part_only(secured: Secured, router: Router):
    settings = Settings(
        **secured.login("stranger"), topic_prefix=f"{router.name}.", app_id=router.name,
        catalogue=router.settings.catalogue,
    )  # type: ignore[arg-type]  # fmt: skip
    llm = router.topics.llm(router.catalogue.slugs[0])
    assert denied(settings, router.topics.queries)
    secured.allow("stranger", grants(settings, router.catalogue, "producer"))
    wait_for(lambda: not denied(settings, router.topics.queries), 20, "it may send queries", pause=0.5)
    assert denied(settings, router.topics.outcomes)

    secured.allow("stranger", grants(settings, router.catalogue, "fleet"))
    admin = reach_broker(settings, 20)
    missing = refused_topics(admin, grants(settings, router.catalogue, "fleet"))
    assert missing == []
    assert Grant("Topic", llm, "Write") in refused_topics(admin, grants(settings, router.catalogue, "worker"))
    # the list prices of what it answers are the catalogue's, which may change while it runs
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


def test_an_operator_creates_the_topics(secured: Secured, router: Router, unique: Callable[[str], str]):
    settings = Settings(
        **secured.certified("operator"), topic_prefix=f"{router.name}.", app_id=router.name, partitions=2,
        catalogue=router.settings.catalogue,
    )  # type: ignore[arg-type]  # fmt: skip
    secured.allow("operator", grants(settings, router.catalogue, "operator"))
    admin = reach_broker(settings, 20)
    made = create_topics(admin, topic_specs(settings, router.catalogue))
    assert set(made.values()) == {False}  # all were there, and it may see that they are as they must be


def test_an_operator_replays_letters_to_wherever_they_came_from(secured: Secured, router: Router):
    settings = Settings(
        **secured.certified("replayer"), topic_prefix=f"{router.name}.", app_id=router.name, partitions=2,
        catalogue=router.settings.catalogue,
    )  # type: ignore[arg-type]  # fmt: skip
    secured.allow("replayer", grants(settings, router.catalogue, "operator"))
    origins = [router.topics.queries, router.topics.overflow, router.topics.llm(router.catalogue.slugs[0])]
    for number, topic in enumerate(origins):
        told = dead_letter_headers(None, Refused("decode", "value", "is odd"), topic, 0, number, 1000)
        router.producer.produce(router.topics.dlq, b"%d" % number, headers=told)
    router.producer.flush(30)
    reach_broker(settings, 20)
    replayer = Replayer(settings, 100.0)
    with Scanner(reader_config(settings)) as scanner:
        try:
            done = replayer.run(read_letters(scanner, router.topics.dlq))
        finally:
            replayer.close()
        assert (done.sent, done.failed) == (3, [])
        back = [[message.value() for message in scanner.read(scanner.places(topic))] for topic in origins]
    assert back == [[b"0"], [b"1"], [b"2"]]


def test_a_batch_is_sent_and_collected_with_the_rights_of_its_role_only(
    secured: Secured, router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    given = {
        **secured.certified("batcher"), "topic_prefix": f"{router.name}.", "app_id": router.name,
        "catalogue": router.settings.catalogue, "partitions": 2,
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"PORT_{name.upper()}", str(value))
    body = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    (tmp_path / "requests.jsonl").write_bytes(orjson.dumps({"custom_id": "one", "body": body}))
    command = [str(tmp_path / "requests.jsonl"), "--answers", str(tmp_path / "answers.jsonl"), "--quiet"]
    assert batch_main([*command, "--no-wait"]) == 1
    assert capsys.readouterr().err.startswith("error: ")

    settings = Settings()
    secured.allow("batcher", grants(settings, router.catalogue, "batch"))
    wait_for(lambda: batch_main([*command, "--no-wait"]) == 0, 30, "it may send", pause=0.5)
    batch = look_through(tmp_path / "requests.jsonl")
    answer = {"id": f"{batch.name}-one", "model": "a", "answer": "scattering", "cost": 0.001}
    router.producer.produce(router.topics.answers, orjson.dumps(answer), answer["id"])
    router.producer.flush(30)
    assert batch_main([*command, "--patience", "60"]) == 0
    assert b"scattering" in (tmp_path / "answers.jsonl").read_bytes()
    assert denied(settings, router.topics.outcomes)
    with Scanner(reader_config(router.settings)) as scanner:
        sent = list(scanner.read(scanner.places(router.topics.queries)))
    assert len(sent) == 1


# ---- without a broker ----------------------------------------------------------------------------------


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "catalogue.yaml"
    path.write_text("models: [{name: a/b, budget_usd: 1}, {name: c, budget_usd: 1}]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(path))
    return path


def test_the_command_prints_arguments_of_kafkas_tool(catalogue: Path, capsys: pytest.CaptureFixture[str]):
    import argparse

    parser = argparse.ArgumentParser()
    acls.add_arguments(parser)
    assert acls.run(parser.parse_args(["worker", "--user", "rt"])) == 0
    lines = capsys.readouterr().out.splitlines()

    assert "--add --allow-principal User:rt --operation Write --topic llm.a-b" in lines
    prefixed = "--operation Write --transactional-id port- --resource-pattern-type prefixed"
    assert f"--add --allow-principal User:rt {prefixed}" in lines
    assert not [line for line in lines if line[-33:] == "--operation Write --topic queries"]


def test_the_guide_lists_what_each_role_is_granted(catalogue: Path):
    guide = (ROOT / "docs" / "security.md").read_text()
    settings = Settings()
    for role in ROLES:
        section = guide.split(f"### {role}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
        named = set()
        for grant in grants(settings, settings.read_catalogue(), role):
            name = "llm.SLUG" if grant.name in ("llm.a-b", "llm.c") else grant.name
            named.add((grant.resource, f"`{name}{'*' if grant.prefix else ''}`", grant.operation))
        listed = set()
        for line in section.splitlines():
            if line.startswith("| ") and not line.startswith(("| Resource", "| ---")):
                resource, names, operations = (cell.strip() for cell in line.strip("|").split("|"))
                listed |= {
                    (resource, name.strip(), operation.strip())
                    for name in names.split(",")
                    for operation in operations.split(",")
                }
        assert listed == named, role


def test_secrets_are_masked_wherever_settings_are_shown(catalogue: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PORT_WEB_TOKEN", "web-token-3c9d")
    monkeypatch.setenv("PORT_SASL_PASSWORD", PASSWORDS["router"])
    monkeypatch.setenv("PORT_SASL_USERNAME", "router")
    monkeypatch.setenv("PORT_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("PORT_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    settings = Settings()
    out = StringIO()
    configure_logs("debug", "json", out)
    try:
        logging.getLogger("x").warning("%r %s", settings, settings.model_dump())
        import structlog

        structlog.get_logger("x").warning("told", settings=settings.model_dump(), **client_config(settings))
        logging.getLogger("x").warning("credentials %r", faust_credentials(settings))
    finally:
        logging.root.handlers.clear()
    shown = out.getvalue()
    report = check_config(connect=False)
    shown += repr(report) + "".join(str(one) for one in report.effective)
    assert "sasl_password" in shown
    for secret in ("web-token-3c9d", PASSWORDS["router"]):
        assert secret not in shown
