"""The command `dlq` on a broker."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streams.__main__ import main
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.scanner import Scanner
from streams.kafka.topics import create_topics, existing_partitions, topic_specs
from streams.kafka.transactions import FencedProducer
from streams.messages.dead_letter import dead_letter_headers
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.operations.dead_letter_replay import DeadLetterReplayer, ReplayResult
from streams.operations.dead_letters import read_letters
from tests.conftest import TopicReader

ODD = b"\x00\xff not JSON \r\n\x1b[31m"


@pytest.fixture
def settings(
    bootstrap_servers: str,
    admin: AdminClient,
    unique: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    name = unique("dlq")
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a]\n")
    for variable, value in {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "PORT_TOPIC_PREFIX": f"{name}.",
        "PORT_APP_ID": name,
        "PORT_PARTITIONS": "3",
        "PORT_CATALOGUE": str(tmp_path / "catalogue.yaml"),
    }.items():
        monkeypatch.setenv(variable, value)
    base = Settings()
    names = (
        base.topics.queries,
        base.topics.outcomes,
        base.topics.dlq,
        base.topics.outcomes_dlq,
        base.topics.replayed,
    )
    create_topics(admin, [s for s in topic_specs(base, base.read_catalogue()) if s.name in names])
    yield base
    for future in admin.delete_topics(
        [topic for topic in existing_partitions(admin) if topic.startswith(f"{name}.")]
    ).values():
        future.result(30)


class Box:
    """Puts dead letters on their topics."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.topics = settings, settings.topics
        self._producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
        self.count = 0

    def put(
        self,
        value: bytes | None,
        reason: str = "has 7 bytes",
        key: bytes | None = None,
        topic: str | None = None,
        partition: int = 0,
        headers: list[tuple[str, bytes | None]] | None = None,
        at: int = 1_000,
    ) -> None:
        refused = RejectedMessage(RejectionReason.INVALID_MESSAGES, "value", problem=reason)
        topic = topic or self.topics.queries
        dead = self.topics.outcomes_dlq if topic == self.topics.outcomes else self.topics.dlq
        error_headers = dead_letter_headers(headers, refused, topic, partition, self.count, at)
        self._producer.produce(dead, value, key, headers=error_headers)
        self._producer.flush(10)
        self.count += 1

    def replay(self, rate: float | None = 1000.0, **options: object) -> ReplayResult:
        replayer = DeadLetterReplayer(self.settings, rate, **options)  # type: ignore[arg-type]
        with Scanner(reader_config(self.settings)) as scanner:
            try:
                return replayer.run(read_letters(scanner, self.topics.dlq))
            finally:
                replayer.close()


@pytest.fixture
def box(settings: Settings) -> Box:
    return Box(settings)


def test_replay_sends_each_letter_unaltered_and_once(
    settings: Settings, box: Box, read_topics: TopicReader, capsys: pytest.CaptureFixture[str]
):
    own: list[tuple[str, bytes | None]] = [("traceparent", b"00-1"), ("twice", ODD), ("twice", None)]
    box.put(ODD, "is not JSON", key=b"\xfe", partition=2, headers=own)
    box.put(None, "is null; send a JSON object", partition=1)
    box.put(b"{}", key=b"", partition=1)
    box.put(b"late", "late", topic=settings.topics.outcomes, partition=3)

    assert main(["dlq", "replay", "queries"]) == 0
    assert main(["dlq", "replay", "outcomes"]) == 0
    assert main(["dlq", "replay", "queries"]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert printed == ["3 replayed", "1 replayed", "0 replayed, 3 were replayed before"]
    sent = read_topics([settings.topics.queries])
    by_partition = {m.partition(): (m.key(), m.value(), m.headers()) for m in sent if m.partition() == 2}
    assert by_partition == {2: (b"\xfe", ODD, own)}
    assert [(m.key(), m.value(), m.headers()) for m in sent if m.partition() == 1] == [
        (None, None, None),
        (b"", b"{}", None),
    ]
    outcomes = read_topics([settings.topics.outcomes])
    assert [(m.partition(), m.value()) for m in outcomes] == [(3, b"late")]


def test_list_and_show_print_counts_and_contents(
    settings: Settings, box: Box, capfdbinary: pytest.CaptureFixture[bytes]
):
    box.put(ODD, "has 1200000 bytes; at most 1048576 are taken", headers=[("own", ODD)])
    box.put(b"2", "has 99 bytes; at most 12 are taken")
    box.put(b"3", "'x' must be an object")
    assert main(["dlq", "replay", "queries", "--reason", "OBJECT"]) == 0
    capfdbinary.readouterr()

    assert main(["dlq", "list", "--json"]) == 0
    listed = orjson.loads(capfdbinary.readouterr().out)
    assert main(["dlq", "list"]) == 0
    table = capfdbinary.readouterr().out.decode()
    assert main(["dlq", "show", "queries", "0", "--value"]) == 0
    value = capfdbinary.readouterr().out
    assert main(["dlq", "show", "queries", "0", "--json"]) == 0
    shown = orjson.loads(capfdbinary.readouterr().out)
    assert main(["dlq", "show", "queries", "0"]) == 0
    text = capfdbinary.readouterr().out.decode()
    assert main(["dlq", "show", "queries", "99"]) == 1

    assert [(kind["kind"], kind["count"], kind["states"]) for kind in listed["queries"]] == [
        ("value: has # bytes; at most # are taken", 2, {"new": 2, "replayed": 0, "back": 0}),
        ("value: # must be an object", 1, {"new": 0, "replayed": 1, "back": 0}),
    ]
    assert listed["outcomes"] == []
    assert "queries: 3 dead letters, 2 of them neither" in table
    assert value == ODD
    assert base64.b64decode(shown["value"]) == ODD
    assert shown["headers"] == [["own", base64.b64encode(ODD).decode()]]
    assert shown["errors"]["exception.message"] == "value: has 1200000 bytes; at most 1048576 are taken"
    assert repr(ODD) in text
    assert "\x1b" not in text


@pytest.mark.parametrize("fate", ["went through", "did not"])
def test_replay_after_a_crash_around_the_commit_is_exactly_once(
    fate: str, settings: Settings, box: Box, read_topics: TopicReader, monkeypatch: pytest.MonkeyPatch
):
    for i in range(4):
        box.put(b"%d" % i)
    commit = FencedProducer.commit

    def crash(self: FencedProducer) -> None:
        if fate == "went through":
            commit(self)
        raise RuntimeError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(FencedProducer, "commit", crash)
        with pytest.raises(RuntimeError):
            box.replay(rate=4)
    done = box.replay()

    assert done.sent == (2 if fate == "went through" else 4)
    assert sorted(m.value() for m in read_topics([settings.topics.queries])) == [b"0", b"1", b"2", b"3"]


def test_replay_with_a_failing_letter_sends_the_others(
    settings: Settings, box: Box, read_topics: TopicReader, monkeypatch: pytest.MonkeyPatch
):
    box.put(b"good")
    box.put(b"nowhere", topic="gone", partition=0)
    box.put(b"refused by the broker")
    box.put(b"better")
    produce = FencedProducer.produce

    def too_large(
        self: FencedProducer, topic: str, value: bytes | None, *rest: object, **more: object
    ) -> None:
        if value == b"refused by the broker":
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        produce(self, topic, value, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(FencedProducer, "produce", too_large)
    done = box.replay()

    assert done.sent == 2
    assert [(letter.value, reason.split(",")[0]) for letter, reason in done.failed] == [
        (b"nowhere", "gone[0]"),
        (b"refused by the broker", "Broker: Message size too large"),
    ]
    assert {m.value() for m in read_topics([settings.topics.queries])} == {b"good", b"better"}


def test_replay_of_a_letter_that_was_rejected_again_needs_again(settings: Settings, box: Box):
    box.put(b"hopeless", at=1_000)
    box.put(b"fresh", at=1_000)
    assert box.replay().sent == 2
    now = 4_000_000_000_000
    box.put(b"hopeless", at=now)

    second = box.replay()
    third = box.replay(again=True)

    assert (second.sent, second.skipped) == (0, {"replayed": 2, "back": 1})
    assert third.sent == 1


def test_replay_with_a_rate_pauses_between_transactions(box: Box):
    for i in range(10):
        box.put(b"%d" % i)
    pauses: list[float] = []

    done = box.replay(rate=4.0, sleep=pauses.append)

    assert done.sent == 10
    assert len(pauses) == 5  # transactions of two letters, half a second each
    assert max(pauses) <= 0.5


def test_replay_without_a_rate_does_not_pause(box: Box):
    for i in range(10):
        box.put(b"%d" % i)
    pauses: list[float] = []

    assert box.replay(rate=None, sleep=pauses.append).sent == 10
    assert pauses == []


def test_second_replay_fences_the_first(settings: Settings, box: Box, read_topics: TopicReader):
    for i in range(6):
        box.put(b"%d" % i)
    others: list[ReplayResult] = []

    def another(seconds: float) -> None:
        if not others:
            others.append(box.replay())

    with pytest.raises(ValueError, match="another replay has begun"):
        box.replay(rate=4.0, sleep=another)

    assert others[0].sent == 4
    assert sorted(m.value() for m in read_topics([settings.topics.queries])) == [b"%d" % i for i in range(6)]
