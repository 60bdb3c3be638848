"""A query with `messages` and no `prompt`, through router, fleet and `explain`. Needs Apache Kafka."""

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from unittest import mock

import orjson
import pytest

from streams.__main__ import main
from tests.conftest import TopicReader
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import make_small
from tests.producers.fleet.chat_server import ChatServer, chat_server
from tests.producers.fleet.fleet_process import fleet

TURNS = [
    {"role": "system", "content": "You answer in one word."},
    {"role": "user", "content": [{"type": "text", "text": "What is the capital of Peru?"}]},
    {"role": "assistant", "content": "Lima"},
    {"role": "user", "content": "And of Chile?"},
]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def explained(stream: Router, identity: str) -> dict:
    """Return the output of `python -m streams explain`."""
    with mock.patch.dict(os.environ, stream.variables), redirect_stdout(io.StringIO()) as out:
        assert main(["explain", identity, "--json"]) == 0
    return orjson.loads(out.getvalue())


def test_query_with_messages_only_is_routed_answered_settled_and_explained(
    router: MakeRouter, server: ChatServer, read_topics: TopicReader, tmp_path: Path
) -> None:
    small = make_small(tmp_path / "demo", "demo", 100, 300, models=2)
    stream = router(small, partitions=1, warmup="history", session_timeout_seconds=6)
    worker = stream.start(ready=True)
    query = {"id": "chat", "messages": TURNS, "parameters": {"temperature": 0.10}, "max_tokens": 9}
    stream.send_raw("chat", orjson.dumps(query), key=b"chat")
    stream.send_raw("null", orjson.dumps({"id": "null", "messages": None, "prompt": "Why?"}), key=b"null")
    stream.all_landed()
    assert {landing.id for landing in stream.served()} == {"chat", "null"}

    with ExitStack() as fleets:
        for model in stream.catalogue.models:
            fleets.enter_context(fleet(stream.settings, server, model=model.name))
        stream.settled(2)
    answers = {m.key(): orjson.loads(m.value()) for m in read_topics([stream.topics.answers])}
    assert answers[b"chat"]["answer"] == "AND OF CHILE?"
    assert answers[b"chat"]["response"]["choices"][0]["message"]["content"] == "AND OF CHILE?"
    assert answers[b"null"]["answer"] == "WHY?"
    assert "response" not in answers[b"null"]
    sent_request = next(request for request in server.requests if len(request["messages"]) > 1)
    assert (sent_request["messages"], sent_request["temperature"], sent_request["max_tokens"]) == (
        TURNS,
        0.1,
        9,
    )

    explanation = explained(stream, "chat")
    (decision,) = explanation["decisions"]
    assert (decision["stage"], decision["model"]) == ("routed", answers[b"chat"]["model"])
    assert "And of Chile?" in explanation["prompt"]
    assert decision["agrees"] is True
    assert decision["outcome"]["cost"] == pytest.approx(answers[b"chat"]["cost"])
    verdict = stream.check_at_rest()
    assert verdict.fine, verdict.text()
    assert worker.stop() == 0
