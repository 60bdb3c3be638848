"""The fleet worker on a real broker: every query answered and settled once, whatever happens to workers."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from producers.fleet import main
from routing.catalogue import Catalogue, Model
from streams.catalogue_versions import CATALOGUE_KEY, CatalogueVersion
from streams.dead_letters import split_dead_letter_headers
from streams.messages import decode_outcome
from streams.settings import Settings
from streams.topics import create_topics, existing_partitions, topic_specs
from streams.transactions import FencedProducer
from tests.conftest import ROOT, TopicReader
from tests.producers.chat_server import COMPLETION_TOKENS, PROMPT_TOKENS, ChatServer, chat_server
from tests.producers.fleets import DEADLINE, fleet, wait_until

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ONE = (2.0 * PROMPT_TOKENS + 10.0 * COMPLETION_TOKENS) / 1e6
"""USD of an answer."""


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
    """Topics of this test's own, in the environment too, so that workers of their own process have them."""
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
    made = Settings()
    create_topics(admin, topic_specs(made, made.read_catalogue()))
    yield made
    topics = [topic for topic in existing_partitions(admin) if topic.startswith(f"{name}.")]
    for future in admin.delete_topics(topics).values():
        future.result(30)


class Stream:
    """What the router would write, and what a fleet made of it."""

    def __init__(self, settings: Settings, read_topics: TopicReader) -> None:
        self.settings, self._read = settings, read_topics
        self._producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
        self._count = 0

    def put(self, *prompts: str, bound: int | None = None, **fields: object) -> None:
        for prompt in prompts:
            number, self._count = self._count, self._count + 1
            routing = {"model": "vendor/llm", "cost": 0.5, "partition": number % 3, "offset": 100 + number}
            if bound is not None:
                routing["max_tokens"] = bound
            query = {"id": f"q-{prompt}", "prompt": prompt, **fields, "routing": routing}
            self.put_raw(orjson.dumps(query), number % 2, [("traceparent", TRACE), ("own", b"\xff")])
        self._producer.flush(10)

    def put_raw(self, value: bytes | None, partition: int, headers: list[tuple[str, bytes]]) -> None:
        topic = self.settings.topics.llm("vendor-llm")
        self._producer.produce(topic, value, partition=partition, headers=headers)

    def reprice(self, **prices: float) -> None:
        """Another catalogue, as `plan apply` publishes it."""
        catalogue = Catalogue((Model("vendor/llm", **prices), Model("other")), budget_usd=1.0)
        value = CatalogueVersion(1, catalogue).encode()
        self._producer.produce(self.settings.topics.catalogue, value, CATALOGUE_KEY)
        self._producer.flush(10)

    def answers(self) -> list[dict]:
        return [orjson.loads(m.value()) for m in self._read([self.settings.topics.answers])]

    def outcomes(self) -> list:
        """Each with the number of its partition."""
        messages = self._read([self.settings.topics.outcomes])
        return [(message.partition(), decode_outcome(message.value())) for message in messages]

    def wait_for_answers(self, count: int) -> list[dict]:
        deadline = time.monotonic() + DEADLINE
        while len(found := self.answers()) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} answers"
            time.sleep(0.1)
        return found


@pytest.fixture
def stream(settings: Settings, read_topics: TopicReader) -> Stream:
    return Stream(settings, read_topics)


@pytest.fixture
def group(settings: Settings, admin: AdminClient) -> Callable[[], list[int]]:
    """How many partitions each worker has; empty while the group is moving."""
    name = f"{settings.app_id}-fleet-vendor-llm"

    def members() -> list[int]:
        told = admin.describe_consumer_groups([name])[name].result(10)
        stable = told.state.name == "STABLE"
        return [len(member.assignment.topic_partitions) for member in told.members] if stable else []

    return members


@contextmanager
def process(server: ChatServer, *options: str) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "producers.fleet", "--llm", "vendor/llm", "--base-url", server.url]
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def settled_once(stream: Stream, prompts: list[str]) -> None:
    """Every query has one answer and one outcome, in the partition that its reservation is in."""
    answers, outcomes = stream.answers(), stream.outcomes()
    wanted = Counter(f"q-{prompt}" for prompt in prompts)
    assert Counter(answer["id"] for answer in answers) == wanted
    assert Counter(outcome.id for _, outcome in outcomes) == wanted
    places = {answer["id"]: (answer["partition"], answer["offset"]) for answer in answers}
    for partition, outcome in outcomes:
        assert (outcome.partition, outcome.offset) == places[outcome.id]
        assert partition == outcome.partition


def test_answers_and_outcomes(
    settings: Settings, stream: Stream, server: ChatServer, read_topics: TopicReader
):
    server.faults["twice"].extend(["500", "429"])
    server.faults["paid"].extend(["unfinished"] * 3)
    server.faults["never"].extend(["400"])
    server.faults["uncounted"].append("uncounted")
    server.faults["slow"].append("hang")
    prompts = ["plain", "twice", "paid", "never", "uncounted", "slow"]
    stream.put(*prompts, max_tokens=9)
    chat = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    parameters = {"temperature": 0.5, "model": "mine", "max_completion_tokens": 99}
    stream.put("chat", messages=chat, max_tokens=4, parameters=parameters)
    stream.put("bad", messages="none")
    stream.put_raw(b"not JSON", 0, [])
    stream.put_raw(None, 1, [])
    stream.put("last")

    with fleet(settings, server, concurrency=4):
        stream.wait_for_answers(9)

    settled_once(stream, [*prompts, "chat", "bad", "last"])
    answers = {answer["id"].removeprefix("q-"): answer for answer in stream.answers()}
    costs = {outcome.id.removeprefix("q-"): outcome.cost for _, outcome in stream.outcomes()}
    assert costs == {name: answer["cost"] for name, answer in answers.items()}
    assert costs == {
        "plain": ONE, "twice": ONE, "paid": 3 * ONE, "never": 0, "uncounted": 0.5, "slow": ONE,
        "chat": ONE, "bad": 0, "last": ONE,
    }  # fmt: skip
    plain = answers["plain"]
    assert (plain["model"], plain["answer"], plain["finish_reason"]) == ("vendor/llm", "PLAIN", "stop")
    assert plain["usage"]["prompt_tokens"] == PROMPT_TOKENS
    assert (plain["partition"], plain["offset"], plain["error"]) == (0, 100, None)
    assert "response" not in plain
    assert answers["twice"]["attempts"] == 2
    assert answers["paid"]["error"]["code"] == "half_answer"
    refused = {"code": "http_400", "message": "Error code: 400 - refused with 400", "status": 400}
    assert answers["never"]["error"] == refused
    assert answers["never"]["answer"] is None
    assert answers["bad"]["error"]["code"] == "invalid_request"
    assert answers["chat"]["response"]["choices"][0]["message"]["content"] == "HI"
    asked = {request["messages"][-1]["content"]: request for request in server.requests}
    assert asked["plain"] == {
        "model": "served-as", "messages": [{"role": "user", "content": "plain"}], "max_tokens": 9,
    }  # fmt: skip
    assert asked["hi"]["messages"][0] == {"role": "system", "content": "be kind"}
    assert {key: asked["hi"][key] for key in asked["hi"] if key != "messages"} == {
        "model": "served-as", "temperature": 0.5, "max_completion_tokens": 4,
    }  # fmt: skip
    assert 1 < server.most_at_once <= 4
    assert server.headers[0]["traceparent"] == TRACE.decode()
    first = read_topics([settings.topics.answers])[0]
    assert first.headers() == [("traceparent", TRACE), ("own", b"\xff")]
    assert first.key() == orjson.loads(first.value())["id"].encode()
    dead = read_topics([settings.topics.dlq])
    assert {message.value() for message in dead} == {b"not JSON", None}
    for message in dead:
        _, errors = split_dead_letter_headers(message.headers())
        assert (errors["topic"], errors["stage"]) == (settings.topics.llm("vendor-llm"), "fleet")


def test_no_more_is_spent_of_a_bound_than_was_reserved(
    settings: Settings, stream: Stream, server: ChatServer
):
    server.faults["refused"].extend(["500", "429"])
    prompts = ["times out", "is cut off"]
    server.faults["times out"].append("hang")
    server.faults["is cut off"].append("cut")
    stream.put("refused", *prompts, bound=9)
    stream.put("asks for more", bound=9, parameters={"max_completion_tokens": 5, "max_tokens": 100_000})
    stream.put("asks oddly", bound=9, parameters={"max_completion_tokens": -1})
    stream.put("estimated")

    with fleet(settings, server):
        stream.wait_for_answers(6)

    settled_once(stream, ["refused", *prompts, "asks for more", "asks oddly", "estimated"])
    costs = {outcome.id.removeprefix("q-"): outcome.cost for _, outcome in stream.outcomes()}
    # what may have been paid for is not asked for again, and settles at what was reserved
    assert costs == {
        "refused": ONE, "times out": 0.5, "is cut off": 0.5, "asks for more": ONE, "asks oddly": 0,
        "estimated": ONE,
    }  # fmt: skip
    assert [server.asked[prompt] for prompt in ("refused", *prompts, "asks oddly")] == [3, 1, 1, 0]
    limits = {
        request["messages"][-1]["content"]: {name: most for name, most in request.items() if "max" in name}
        for request in server.requests
    }
    assert limits == {
        "refused": {"max_tokens": 9}, "times out": {"max_tokens": 9}, "is cut off": {"max_tokens": 9},
        "asks for more": {"max_completion_tokens": 5}, "estimated": {},
    }  # fmt: skip


def test_an_answer_that_no_topic_takes_does_not_stop_the_others(
    settings: Settings, stream: Stream, server: ChatServer
):
    server.faults["huge"].append("large")
    chat = [{"role": "user", "content": "huge"}]
    stream.put("huge", messages=chat)
    stream.put("after")
    with fleet(settings, server, request_seconds=10.0):
        stream.wait_for_answers(2)
    settled_once(stream, ["huge", "after"])
    answers = {answer["id"]: answer for answer in stream.answers()}
    huge = answers["q-huge"]
    assert (huge["error"]["code"], huge["answer"]) == ("answer_too_large", None)
    # it was given, and has to be paid
    assert huge["cost"] == ONE
    assert huge["usage"]["completion_tokens"] == COMPLETION_TOKENS
    assert answers["q-after"]["answer"] == "AFTER"


def test_headers_that_are_none_of_http_cost_nobody_an_answer(
    settings: Settings, stream: Stream, server: ChatServer, read_topics: TopicReader
):
    odd = [("traceparent", b"\xff"), ("tracestate", "é".encode())]
    routing = {"model": "vendor/llm", "cost": 0.5, "partition": 0, "offset": 7}
    stream.put_raw(orjson.dumps({"id": "q-odd", "prompt": "odd", "routing": routing}), 0, odd)
    stream.put("next")

    with fleet(settings, server):
        stream.wait_for_answers(2)

    assert {answer["answer"] for answer in stream.answers()} == {"ODD", "NEXT"}
    assert odd in [message.headers() for message in read_topics([settings.topics.answers])]


def test_killed_or_frozen_others_answer_what_was_not_finished(
    settings: Settings, stream: Stream, server: ChatServer, group: Callable[[], list[int]]
):
    quick, held = [f"quick {i}" for i in range(12)], [f"held {i}" for i in range(4)]
    server.held.update(held)

    with process(server) as killed, process(server) as frozen:
        wait_until(lambda: group() == [1, 1], "each has a partition")
        # slow answers first: those after them are committed all the same
        stream.put(*held[:2], *quick, *held[2:])
        stream.wait_for_answers(len(quick))
        wait_until(lambda: all(server.asked[prompt] for prompt in held), "all are in flight")
        killed.kill()
        frozen.send_signal(signal.SIGSTOP)
        server.hold_all = False
        with fleet(settings, server):
            wait_until(lambda: group() == [2], "another has taken over")
            server.release()
            stream.wait_for_answers(len(quick) + len(held))
            # it wakes up with answers to what is not its own any more
            frozen.send_signal(signal.SIGCONT)
            wait_until(lambda: group() == [1, 1], "it is a member again")
            stream.put("after", "that")
            stream.wait_for_answers(len(quick) + len(held) + 2)
            frozen.terminate()
            assert frozen.wait(DEADLINE) == 0

    settled_once(stream, [*quick, *held, "after", "that"])
    assert {server.asked[prompt] for prompt in [*quick, "after", "that"]} == {1}
    assert {server.asked[prompt] for prompt in held} == {2}


def test_prices_may_change_and_told_to_stop_it_finishes_what_is_in_flight(
    settings: Settings, stream: Stream, server: ChatServer
):
    stream.put("before")
    with process(server, "--concurrency", "2") as worker:
        costs = [stream.wait_for_answers(1)[0]["cost"]]
        stream.reprice(input_price=4.0, output_price=20.0)
        asked = ["before"]
        while costs[-1] == ONE:
            asked.append(f"then {len(asked)}")
            stream.put(asked[-1])
            costs = sorted(answer["cost"] for answer in stream.wait_for_answers(len(asked)))
        server.hold_all = True
        stream.put("one", "two")
        wait_until(lambda: server.asked["one"] + server.asked["two"] == 2, "both are in flight")
        stream.put("not any more")
        worker.send_signal(signal.SIGTERM)
        server.release()
        assert worker.wait(DEADLINE) == 0

    settled_once(stream, [*asked, "one", "two"])
    assert server.asked["not any more"] == 0
    by_id = {answer["id"]: answer["cost"] for answer in stream.answers()}
    assert (by_id["q-before"], by_id["q-one"]) == (ONE, 2 * ONE)


def test_partitions_change_hands_and_nothing_is_asked_twice(
    settings: Settings, stream: Stream, server: ChatServer, group: Callable[[], list[int]]
):
    prompts = [f"p{i}" for i in range(40)]
    server.held.update(prompts[:20:5])
    stream.put(*prompts[:20])
    with fleet(settings, server, request_seconds=DEADLINE):
        stream.wait_for_answers(16)
        wait_until(lambda: server.asked.total() == 20, "four are in flight")
        with fleet(settings, server):
            # the first has four in flight, and keeps its partitions until they are answered
            wait_until(lambda: not group(), "the second joins")
            server.release()
            wait_until(lambda: group() == [1, 1], "each has a partition")
            stream.put(*prompts[20:])
            stream.wait_for_answers(40)

    settled_once(stream, prompts)
    assert set(server.asked.values()) == {1}


def test_a_commit_of_which_nobody_knows_whether_it_went_through(
    settings: Settings, stream: Stream, server: ChatServer, monkeypatch: pytest.MonkeyPatch
):
    commit, fates = FencedProducer.commit, ["went through", "did not", "fine"]

    def flaky(self: FencedProducer) -> None:
        fate = fates.pop(0) if fates else "fine"
        if fate != "did not":
            commit(self)
        if fate != "fine":
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, fate))

    monkeypatch.setattr(FencedProducer, "commit", flaky)
    with fleet(settings, server):
        for prompt in ("first", "second", "third"):
            stream.put(prompt)
            wait_until(lambda prompt=prompt: server.answered[prompt] == 1, f"{prompt} is asked")
        stream.wait_for_answers(3)

    assert fates == []
    settled_once(stream, ["first", "second", "third"])
    assert set(server.asked.values()) == {1}


def test_an_endpoint_that_refuses_us_stops_the_worker_and_loses_nothing(
    settings: Settings, stream: Stream, server: ChatServer, capsys: pytest.CaptureFixture[str]
):
    server.faults["no key"].append("401")
    stream.put("no key")

    assert main(["--llm", "vendor/llm", "--base-url", server.url]) == 1
    assert "api_key" in capsys.readouterr().err
    assert stream.answers() == []

    with fleet(settings, server):
        stream.wait_for_answers(1)
    settled_once(stream, ["no key"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--llm", "nobody"], "is not in the catalogue, which has vendor/llm, other"),
        (["--llm", "other"], "--input-price, --output-price: the catalogue has no prices of 'other'"),
        (["--llm", "new", "--input-price", "1", "--output-price", "1"], "llm.new is not there"),
    ],
)
def test_what_is_not_known_is_told(
    arguments: list[str], text: str, settings: Settings, capsys: pytest.CaptureFixture[str]
):
    assert main([*arguments, "--base-url", "http://127.0.0.1:1"]) == 1
    assert text in capsys.readouterr().err
