"""`python -m producers.fleet` on Kafka with wrong arguments or a misconfigured endpoint."""

import pytest

from producers.fleet.__main__ import main
from streams.config.settings import Settings
from tests.producers.fleet.chat_server import (
    ChatServer,
)
from tests.producers.fleet.fleet_process import fleet
from tests.producers.fleet.routed_topic import RoutedTopic, assert_settled_once


def test_main_access_refused_stops_and_keeps_queries(
    settings: Settings, stream: RoutedTopic, server: ChatServer, capsys: pytest.CaptureFixture[str]
):
    server.faults["no key"].append("401")
    stream.put("no key")

    assert main(["--llm", "vendor/llm", "--base-url", server.url]) == 1
    assert "api_key" in capsys.readouterr().err
    assert stream.answers() == []

    with fleet(settings, server):
        stream.wait_for_answers(1)
    assert_settled_once(stream, ["no key"])


MISCONFIGURED = {
    "a page": (200, {"Content-Type": "text/html"}, b"<!doctype html><p>Please sign in</p>", "Please sign in"),
    "a wrong path": (200, {}, b'{"error":"Unexpected endpoint or method."}', "Unexpected endpoint or method"),
    "a bad key": (400, {}, b'[{"error":{"code":400,"message":"API key not valid."}}]', "API key not valid"),
    "no such LLM": (
        400,
        {},
        b'{"error":{"message":"Model Not Exist","type":"invalid_request_error"}}',
        "Model Not Exist",
    ),
    "no credit": (
        429,
        {},
        b'{"error":{"message":"suspended","type":"exceeded_current_quota_error"}}',
        "suspended",
    ),
    "no credit in a body": (200, {}, b'{"error":{"code":402,"message":"No credits"}}', "No credits"),
    "tokens per day": (429, {"Retry-After": "86400"}, b'{"error":{"message":"TPD"}}', "TPD"),
    "down": (503, {}, b"no server is available", "no server is available"),
}


@pytest.mark.parametrize("bound", [None, 9])
@pytest.mark.parametrize("kind", MISCONFIGURED)
def test_main_endpoint_misconfigured_stops_and_keeps_queries(
    kind: str,
    bound: int | None,
    settings: Settings,
    stream: RoutedTopic,
    server: ChatServer,
    capsys: pytest.CaptureFixture[str],
):
    *response, text = MISCONFIGURED[kind]
    prompts = [f"p{i}" for i in range(12)]
    stream.put(*prompts, bound=bound)
    command = ["--llm", "vendor/llm", "--base-url", server.url, "--query-seconds", "3", "--attempts", "2"]
    if kind in ("tokens per day", "down"):  # the endpoint may recover, so such queries could be returned
        command += ["--on-failure", "answer"]

    server.respond = lambda body: tuple(response)  # type: ignore[return-value]
    assert main(command) == 1
    assert text in capsys.readouterr().err
    assert (stream.answers(), stream.outcomes()) == ([], [])

    server.respond = None
    with fleet(settings, server):
        stream.wait_for_answers(len(prompts))
    assert_settled_once(stream, prompts)
    assert {answer["error"] is None for answer in stream.answers()} == {True}


@pytest.mark.parametrize("kind", ["a bad key", "no credit", "a page"])
def test_main_endpoint_breaks_after_answers_stops_and_keeps_queries(
    kind: str, settings: Settings, stream: RoutedTopic, server: ChatServer, capsys: pytest.CaptureFixture[str]
):
    *response, text = MISCONFIGURED[kind]
    prompts = [f"p{i}" for i in range(30)]
    stream.put(*prompts)
    served: list[str] = []

    def respond(body: dict) -> tuple | None:
        served.append(body["messages"][-1]["content"])
        return None if len(served) <= 10 else tuple(response)

    server.respond = respond  # type: ignore[assignment]
    options = ["--concurrency", "4", "--attempts", "2", "--query-seconds", "3", "--on-failure", "answer"]
    assert main(["--llm", "vendor/llm", "--base-url", server.url, *options]) == 1
    assert text in capsys.readouterr().err
    answers = stream.answers()
    assert (len(answers), {answer["error"] is None for answer in answers}) == (10, {True})

    server.respond = None
    with fleet(settings, server):
        stream.wait_for_answers(len(prompts))
    assert_settled_once(stream, prompts)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--llm", "nobody"], "is not in the catalogue, which has vendor/llm, other"),
        (["--llm", "other"], "--input-price, --output-price: the catalogue has no prices of 'other'"),
        (["--llm", "new", "--input-price", "1", "--output-price", "1"], "llm.new does not exist"),
    ],
)
def test_main_unknown_llm_prices_or_topic_are_reported(
    arguments: list[str], text: str, settings: Settings, capsys: pytest.CaptureFixture[str]
):
    assert main([*arguments, "--base-url", "http://127.0.0.1:1"]) == 1
    assert text in capsys.readouterr().err
