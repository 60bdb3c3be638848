"""Fleets return queries whose endpoint fails: each goes to another LLM, exactly once.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import orjson
import pytest

from streams.__main__ import main
from streams.audit.topic_records import TopicRecord
from streams.messages.returned import return_headers
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import outcome_of, send_outcome, wait_for_outcomes
from tests.end_to_end.recorded_schemas import assert_records_fit_their_schemas
from tests.end_to_end.recorded_topics import Recorded
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.settlement_faults import DieInReturns
from tests.end_to_end.worker_process import ROOT, wait_for
from tests.producers.fleet.chat_server import ChatServer, Response, chat_server
from tests.producers.fleet.fleet_process import fleet

LASTING = {"warmup": "history", "period_seconds": 1e6, "horizon": 100}


class FailingServer:
    """A chat server whose LLMs fail on command."""

    def __init__(self, server: ChatServer) -> None:
        self.server, self.failing = server, set[str]()
        server.respond = self._respond

    def _respond(self, body: dict) -> Response | None:
        if body["model"] in self.failing:
            return 503, {}, b'{"error": {"message": "down"}}'
        return None


@contextmanager
def running_fleets(router: Router, *failing: str) -> Iterator[FailingServer]:
    """Run a fleet of each LLM against one server, for the length of a block; some LLMs fail at first."""
    with ExitStack() as stack:
        server = FailingServer(stack.enter_context(chat_server()))
        server.failing.update(failing)
        for model in router.catalogue.names:
            options = {"model": model, "served_as": model, "returns": True, "max_wait": 0.3}
            stack.enter_context(fleet(router.settings, server.server, **options))
        yield server


def read(router: Router, topic: str) -> list[TopicRecord]:
    with router.logs() as logs:
        return list(logs.read(topic))


def ended(router: Router) -> Counter[str]:
    """Return how often each query was answered or left unserved, by id."""
    entries = [*read(router, router.topics.answers), *read(router, router.topics.unserved)]
    return Counter(orjson.loads(entry.value or b"")["id"] for entry in entries)


def all_ended(router: Router) -> None:
    # each look reads two topics from their beginning
    wait_for(lambda: ended(router).keys() == set(router.sent.values()), 180, router.progress(), pause=0.5)
    assert set(ended(router).values()) == {1}


def returned(router: Router, kind: str) -> int:
    """Return the number of returned queries of a kind in the ledgers."""
    return sum(record.returns.get(kind, 0) for record in router.ledgers().values())


def test_queries_of_a_failing_llm_go_to_others_exactly_once(router: MakeRouter) -> None:
    breaker = {"breaker_backoff_seconds": 1, "breaker_test_share": 1.0, "breaker_successes": 2}
    stream = router(partitions=2, **LASTING, **breaker)
    stream.start()
    stream.send(range(80))
    stream.all_landed()
    landings = stream.served()
    dead = Counter(landing.model for landing in landings).most_common(1)[0][0]
    assert dead is not None
    lost = [landing for landing in landings if landing.model == dead]
    with running_fleets(stream, dead) as server:
        all_ended(stream)
        assert len(lost) >= 5
        wait_for(lambda: stream.plan().paused.get(dead), 30, "the LLM that failed is paused", pause=0.2)
        server.failing.clear()
        numbers = itertools.count(80, 10)

        def resumed() -> bool:
            # ten at a time: a busy machine must not fall behind
            if ended(stream).keys() == set(stream.sent.values()):
                stream.send(range(start := next(numbers), start + 10), tag=f"{start}-")
            return dead not in stream.plan().paused

        wait_for(resumed, 90, "tests succeed once the fleet asks its endpoint again", pause=0.2)
        all_ended(stream)
    answers = [orjson.loads(entry.value or b"") for entry in read(stream, stream.topics.answers)]
    first = [answer for answer in answers if answer["id"] in {landing.id for landing in landings}]
    assert dead not in {answer["model"] for answer in first}
    assert {answer["attempt"] for answer in first} == {1, 2}
    assert any(answer["model"] == dead for answer in answers), "it answers again"
    wait_for(lambda: returned(stream, "returned") >= len(lost), 30, "all returns are counted")
    wait_for_outcomes(stream, settled=len(answers))

    # a return that comes again and an outcome of a returned attempt change nothing
    again = read(stream, stream.topics.returned)[0]
    stream.producer.produce(
        stream.topics.returned, again.value, again.key, again.partition, headers=list(again.headers)
    )
    send_outcome(stream, outcome_of(lost[0], 0.0), lost[0].lane)
    wait_for_outcomes(stream, contradictory=1)
    wait_for(lambda: returned(stream, "duplicate") == 1, 30, "the duplicate is counted")
    assert_whole(stream)
    with stream.logs() as logs:
        counts = assert_records_fit_their_schemas(Recorded.of(logs, stream.topics))
    assert counts["returned-query"] > len(lost)
    assert counts["answer"] == len(answers)


@pytest.mark.parametrize("moment", ["flushed", "after"])
def test_worker_killed_while_deciding_returned_queries_decides_each_once(
    router: MakeRouter, moment: str
) -> None:
    stream = router(partitions=2, **LASTING)
    dying = stream.start(DieInReturns(2, moment))
    stream.send(range(60))
    stream.all_landed()
    sent = {
        (entry.partition, entry.offset): entry
        for slug in stream.catalogue.slugs
        for entry in read(stream, stream.topics.llm(slug))
    }
    for entry in sent.values():
        lane = orjson.loads(entry.value or b"")["routing"]["partition"]
        headers = [*entry.headers, *return_headers("timeout", 0.0)]
        stream.producer.produce(stream.topics.returned, entry.value, entry.key, lane, headers=headers)
        stream.producer.flush(30)
        if not dying.alive:
            break
    wait_for(lambda: not dying.alive, 60, "the worker dies")
    stream.start()
    count = len(read(stream, stream.topics.returned))
    wait_for(lambda: returned(stream, "returned") == count, 60, "every return is decided")
    assert_whole(stream)


DYING = """
import os, signal, sys
from producers.fleet.__main__ import main
from streams.kafka.transactions import FencedProducer

def die(self, next_offset=None):
    self._producer.flush(30)
    os.kill(os.getpid(), signal.SIGKILL)

FencedProducer.commit = die
main(sys.argv[1:])
"""
"""A fleet that is killed with all returns sent and nothing committed."""


def drain(router: Router, model: str, *program: str) -> int:
    """Return what waits for an LLM, by a fleet without an endpoint; return its exit status."""
    command = [sys.executable, *program, "--llm", model, "--drain", "--cost", "reserved"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORT_")}
    return subprocess.run(command, cwd=ROOT, env=environment | router.variables, timeout=120).returncode


def plan_command(router: Router, *arguments: str) -> None:
    """Run `python -m streams plan` with the router's settings."""
    with mock.patch.dict(os.environ, router.variables):
        assert main(["plan", *arguments]) == 0


def follow_plan(router: Router) -> None:
    """Send queries until the lanes decide by the plan that is in force now."""
    revision, numbers = router.plan().revision, itertools.count()

    def followed() -> bool:
        router.send(range(2), partitions=[0, 1], tag=f"follow-{revision}-{next(numbers)}-")
        router.all_landed()
        return all(router.ledgers()[lane].revision >= revision for lane in (0, 1))

    wait_for(followed, 60, "the lanes follow the plan")


def test_paused_llm_gets_no_query_its_backlog_is_returned_and_it_comes_back(router: MakeRouter) -> None:
    stream = router(partitions=2, **LASTING)
    stream.start()
    stream.send(range(60))
    stream.all_landed()
    model = str(Counter(landing.model for landing in stream.served()).most_common(1)[0][0])
    plan_command(stream, "pause", model)
    wait_for(lambda: model in stream.plan().paused, 30, "the LLM is paused")
    follow_plan(stream)
    backlog = [landing for landing in stream.served() if landing.model == model]
    stream.send(range(60, 90))
    stream.all_landed()
    assert [landing for landing in stream.served() if landing.model == model] == backlog

    assert drain(stream, model, "-c", DYING) == -signal.SIGKILL
    assert drain(stream, model, "-m", "producers.fleet") == 0
    wait_for(lambda: returned(stream, "returned") == len(backlog), 30, "all returns are decided, once")
    again = [one for landings in stream.landed.values() for one in landings if one.attempt == 2]
    assert len(again) == len(backlog)
    assert model not in {landing.model for landing in again}

    plan_command(stream, "resume", model)
    wait_for(lambda: model not in stream.plan().paused, 30, "the LLM is resumed")
    numbers = itertools.count(100, 10)

    def comes_back() -> bool:
        stream.send(range(start := next(numbers), start + 10), tag=f"{start}-")
        stream.all_landed()
        return sum(landing.model == model for landing in stream.served()) > len(backlog)

    wait_for(comes_back, 60, "it gets queries again")
    assert_whole(stream)
