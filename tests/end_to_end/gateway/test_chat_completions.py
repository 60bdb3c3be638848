"""Gateways on Apache Kafka, with a real worker, real fleets and OpenAI's client."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import openai
import orjson
import pytest

from tests.conftest import TopicReader
from tests.end_to_end.gateway.gateway_process import GatewayProcess, GatewayStack
from tests.end_to_end.worker_process import wait_for
from tests.infra.code_blocks import code_blocks

REQUESTS = 500


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(**{"model": "auto", "messages": messages, **options})


def sent_queries(stack: GatewayStack, read_topics: TopicReader, text: str) -> list[dict[str, Any]]:
    """Return the queries with this text on the topic of queries."""
    queries = [orjson.loads(m.value() or b"{}") for m in read_topics([stack.router.topics.queries])]
    return [query for query in queries if query.get("messages", [{}])[-1].get("content") == text]


def test_answer_names_the_llm_and_the_query_has_team_and_limits(
    stack: GatewayStack, gateway: GatewayProcess, read_topics: TopicReader
):
    client = gateway.client(api_key="sk-search")
    model = stack.router.catalogue.names[1]
    options = {"metadata": {"team": "forged", "job": "7"}, "max_completion_tokens": 9, "temperature": 0.5}
    answer = ask(client, "why is the sky blue?", model=[model, "nothing-*"][:1], **options, timeout=50)

    assert answer.choices[0].message.content == "WHY IS THE SKY BLUE?"
    assert answer.model in stack.router.catalogue.names
    assert answer.usage.total_tokens == 18
    (query,) = sent_queries(stack, read_topics, "why is the sky blue?")
    assert query["metadata"] == {"team": "search", "job": "7"}
    assert (query["models"], query["max_tokens"]) == ([model], 9)
    assert query["parameters"] == {"temperature": 0.5, "max_completion_tokens": 9}
    assert query["deadline"] > 1.7e12
    assert query["id"] == answer.id


def test_example_of_the_documentation_prints_llm_and_answer(
    stack: GatewayStack, gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]
):
    (block,) = [block for block in code_blocks("python") if block.page == "docs/gateway.md"]
    assert '"http://localhost:8000/v1"' in block.text
    exec(block.text.replace('"http://localhost:8000/v1"', repr(gateway.url)), {})
    model, answer = capsys.readouterr().out.rstrip().split(" ", 1)
    assert (model in stack.router.catalogue.names, answer) == (True, "WHY IS THE SKY BLUE?")


def test_stream_is_one_delta_with_usage(gateway: GatewayProcess):
    stream = ask(
        gateway.client(api_key="sk-ads"), "stream this", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "STREAM THIS"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None, "stop"]
    assert chunks[-1].usage.total_tokens == 18


def test_errors_are_those_of_openai(stack: GatewayStack, gateway: GatewayProcess):
    client = gateway.client(api_key="sk-search")
    with pytest.raises(openai.NotFoundError, match="unknown-llm"):
        ask(client, "x", model="unknown-llm")
    with pytest.raises(openai.AuthenticationError):
        ask(gateway.client(api_key="sk-wrong"), "x")
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        ask(client, "x", max_tokens=0)
    stack.server.faults["refuse this"].extend(["400"] * 9)
    with pytest.raises(openai.BadRequestError, match="refused with 400"):
        ask(client, "refuse this")
    assert {"auto", *stack.router.catalogue.names} == {model.id for model in client.models.list()}


def test_limit_that_excludes_every_llm_is_an_error_of_the_request(gateway: GatewayProcess):
    with pytest.raises(openai.BadRequestError) as limited:
        ask(gateway.client(api_key="sk-ads"), "cheap", extra_body={"max_cost_usd": 1e-12})
    assert limited.value.code == "no_eligible_llm"
    assert limited.value.response.json()["error"]["budget"]["excluded"]


def test_exhausted_budget_is_an_error_of_quota_that_names_reason_and_budget(
    stack: GatewayStack, gateway: GatewayProcess
):
    poor = stack.router.catalogue.names[-1]
    with pytest.raises(openai.APIStatusError) as refused:
        ask(gateway.client(api_key="sk-ads", max_retries=2), "too expensive", model=poor)
    assert refused.value.status_code == 402
    assert refused.value.response.headers["x-should-retry"] == "false"
    error = refused.value.response.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert error["reason"] == "budget_exhausted"
    assert poor in error["budget"]["exhausted"]
    assert poor in error["message"]
    assert not stack.server.asked["too expensive"]


def test_query_that_no_llm_is_worth_is_an_error_of_quota_without_a_retry(
    stack: GatewayStack, gateway: GatewayProcess, read_topics: TopicReader
):
    text = "not worth a cent"
    with pytest.raises(openai.RateLimitError) as refused:
        # its quality counts for less than the smallest score that is served, at any price
        ask(gateway.client(api_key="sk-ads", max_retries=2), text, extra_body={"weight": 1e-9})
    assert (refused.value.status_code, refused.value.code) == (429, "not_worth_it")
    assert refused.value.response.headers["x-should-retry"] == "false"
    error = refused.value.response.json()["error"]
    assert (error["type"], error["reason"]) == ("insufficient_quota", "not_worth_it")
    assert error["budget"]["exhausted"] == []
    assert "Raise its weight" in error["message"]
    assert len(sent_queries(stack, read_topics, text)) == 1, "the client did not repeat it"
    assert not stack.server.asked[text]


def test_time_limit_of_the_client_ends_a_request(stack: GatewayStack, gateway: GatewayProcess):
    stack.server.hold("slow")
    try:
        with pytest.raises((openai.InternalServerError, openai.APITimeoutError)):
            ask(gateway.client(api_key="sk-ads"), "slow", extra_headers={"x-stainless-read-timeout": "0.5"})
    finally:
        stack.server.release()


def test_idempotency_key_sends_one_query_over_two_gateways(
    stack: GatewayStack, gateway: GatewayProcess, other: GatewayProcess, read_topics: TopicReader
):
    key = {"Idempotency-Key": "order-1"}
    clients = [process.client(api_key="sk-search") for process in (gateway, other)] * 3
    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda client: ask(client, "pay once", extra_headers=key), clients))

    assert {answer.id for answer in answers} == {answers[0].id}
    assert {answer.choices[0].message.content for answer in answers} == {"PAY ONCE"}
    assert len(sent_queries(stack, read_topics, "pay once")) == 1
    with pytest.raises(openai.BadRequestError, match="another request"):
        ask(clients[0], "pay twice", extra_headers=key)


def test_request_of_a_killed_gateway_is_answered_by_another_once(
    stack: GatewayStack, other: GatewayProcess, read_topics: TopicReader
):
    doomed = stack.start_with_keys()
    key, text = {"Idempotency-Key": "order-2"}, "survive"
    client = doomed.client(api_key="sk-search")
    stack.server.hold(text)
    failures: list[BaseException] = []

    def lost() -> None:
        try:
            ask(client, text, extra_headers=key)
        except openai.APIConnectionError as error:
            failures.append(error)

    caller = threading.Thread(target=lost)
    caller.start()
    try:
        wait_for(lambda: stack.server.asked[text], 60, "the query reached the endpoint")
        doomed.kill()
        caller.join(30)
    finally:
        stack.server.release()

    assert len(failures) == 1
    answer = ask(other.client(api_key="sk-search"), text, extra_headers=key)
    assert answer.choices[0].message.content == "SURVIVE"
    assert len(sent_queries(stack, read_topics, text)) == 1


def test_full_gateway_answers_429_with_retry_after_and_the_client_repeats(stack: GatewayStack):
    small = stack.start("--max-in-flight", "1", "--max-body-bytes", "2000")
    stack.server.hold("first")
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(ask, small.client(), "first")
            wait_for(lambda: stack.server.asked["first"], 60, "the first request is in flight")
            with pytest.raises(openai.RateLimitError) as caught:
                ask(small.client(), "second")
            assert caught.value.response.headers["retry-after"] == "1"
            patient = pool.submit(ask, small.client(max_retries=20), "patient")
        finally:
            stack.server.release()
        assert first.result(60).choices[0].message.content == "FIRST"
        assert patient.result(60).choices[0].message.content == "PATIENT"
    with pytest.raises(openai.APIStatusError) as caught:
        ask(small.client(), "x" * 3000)
    assert caught.value.status_code == 413


def test_caller_that_goes_away_is_forgotten(stack: GatewayStack, gateway: GatewayProcess):
    metrics = gateway.url.removesuffix("/v1") + "/metrics"
    abandoned = 'port_gateway_requests_total{route="POST /v1/chat/completions",status="499"} 1.0'
    stack.server.hold("never read")
    try:
        client = gateway.client(api_key="sk-ads", timeout=1)
        with pytest.raises(openai.APITimeoutError):
            ask(client, "never read", extra_headers={"x-stainless-read-timeout": "50"})
        wait_for(
            lambda: abandoned in urlopen(metrics).read().decode(), 30, "the request is counted as abandoned"
        )
    finally:
        stack.server.release()
    assert "port_gateway_in_flight_requests 0.0" in urlopen(metrics).read().decode()


def test_five_hundred_requests_at_once_each_get_their_own_answer(
    gateway: GatewayProcess, other: GatewayProcess
):
    async def run() -> Counter[str]:
        clients = [
            openai.AsyncOpenAI(api_key="sk-search", base_url=process.url, max_retries=0, timeout=100)
            for process in (gateway, other)
        ]

        async def one(number: int) -> str:
            text = f"request {number} of many"
            answer = await clients[number % 2].chat.completions.create(
                model="auto", messages=[{"role": "user", "content": text}]
            )
            return "own" if answer.choices[0].message.content == text.upper() else "wrong"

        return Counter(await asyncio.gather(*(one(number) for number in range(REQUESTS))))

    assert asyncio.run(run()) == {"own": REQUESTS}
