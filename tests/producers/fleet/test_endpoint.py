"""`EndpointClient.complete` against a server that fails in the ways real endpoints do."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from time import time

import openai
import pytest

from producers.fleet.endpoint import EndpointClient, EndpointReply, Limits
from producers.fleet.failures import EndpointAccessError
from producers.fleet.messages import Tokens
from producers.fleet.self_test import plain_request
from tests.producers.fleet.chat_server import (
    ANSWER_TOKENS,
    COMPLETION_TOKENS,
    PLAIN_PROMPT,
    PROMPT_TOKENS,
    TRACEPARENT,
    ChatServer,
    request,
)


async def test_complete_complete_answer_is_returned(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    reply = await make_client().complete(request("hello"), {"traceparent": TRACEPARENT})

    assert reply.body is not None
    assert reply.body["choices"][0]["message"]["content"] == "HELLO"
    assert (reply.tokens, reply.counted, reply.attempts, reply.error) == (ANSWER_TOKENS, True, 1, None)
    assert server.requests[-1] == request("hello")
    assert server.headers[-1]["traceparent"] == TRACEPARENT
    assert server.headers[-1]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("fault", ["500", "cut", "broken"])
async def test_complete_temporary_failures_are_retried(
    fault: str, make_client: Callable[..., EndpointClient], server: ChatServer, pauses: list[float]
):
    prompt = f"after {fault}"
    server.faults[prompt].extend([fault, fault])

    reply = await make_client().complete(request(prompt))

    assert reply.body is not None
    assert (reply.tokens, reply.attempts, server.asked[prompt]) == (ANSWER_TOKENS, 3, 3)
    assert pauses == [0.5, 1.0]


async def test_complete_incomplete_answers_with_usage_are_paid(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults["half"].extend(["unfinished"] * 2)
    server.faults["never whole"].extend(["unfinished"] * 9)

    caller = make_client(attempts=3)
    reply, failed = [await caller.complete(request(prompt)) for prompt in ("half", "never whole")]

    assert reply.body is not None
    assert reply.tokens == Tokens(3 * PROMPT_TOKENS, 3 * COMPLETION_TOKENS)
    assert failed.body is None
    assert failed.tokens == reply.tokens
    assert failed.error is not None
    assert failed.error["code"] == "half_answer"


async def test_complete_pay_once_does_not_retry_a_paid_answer(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults["bounded"].extend(["500", "unfinished", "unfinished"])

    reply = await make_client().complete(request("bounded"), pay_once=True)

    assert (reply.tokens, reply.attempts, reply.unsure) == (ANSWER_TOKENS, 2, False)
    assert (server.asked["bounded"], reply.body) == (2, None)


@pytest.mark.parametrize("fault", ["hang", "cut", "broken", "502", "504"])
async def test_complete_pay_once_does_not_retry_an_unsure_request(
    fault: str, make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults[f"once {fault}"].extend(["429", "503", fault])
    server.faults[f"again {fault}"].append(fault)
    caller = make_client(request_seconds=0.3)

    bounded = await caller.complete(request(f"once {fault}"), pay_once=True)
    other = await caller.complete(request(f"again {fault}"))

    # refused with a status is not paid for: those were asked again
    assert (bounded.body, bounded.unsure, server.asked[f"once {fault}"]) == (None, True, 3)
    assert other.body is not None
    assert (other.unsure, server.asked[f"again {fault}"]) == (True, 2)


async def test_complete_endpoint_unreachable_raises_access_error():
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    client = openai.AsyncOpenAI(api_key="x", base_url="http://127.0.0.1:1/v1", max_retries=0)
    caller = EndpointClient(client, Limits(attempts=3, query_seconds=4.0), sleep, draw=lambda: 1.0)

    with pytest.raises(
        EndpointAccessError, match=r"neither queries nor 4 plain requests .*; repair the endpoint"
    ):
        await caller.complete(request("anyone?"), pay_once=True)

    assert paused == [0.5, 1.0, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("fault", ["503", "500", "hang", "cut"])
async def test_complete_after_an_outage_retries_the_query(
    fault: str, make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults[f"outage {fault}"].extend([fault] * 2)
    server.faults[PLAIN_PROMPT].extend([fault] * 2)

    reply = await make_client(attempts=2, request_seconds=0.3).complete(request(f"outage {fault}"))

    assert reply.body is not None
    assert (reply.attempts, reply.tokens, reply.probe_tokens) == (3, ANSWER_TOKENS, ANSWER_TOKENS)


async def test_complete_outage_fails_no_query_in_flight(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    caller, left = make_client(attempts=2), [30]

    def respond(body: dict) -> tuple[int, dict[str, str], bytes] | None:
        left[0] -= 1
        return (503, {}, b"restarting") if left[0] > 0 else None

    server.respond = respond
    replies = await asyncio.gather(*[caller.complete(request(f"restart {i}")) for i in range(8)])

    assert [reply.error for reply in replies] == [None] * 8


async def test_complete_query_that_crashes_the_endpoint_fails(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    down = [0]

    def respond(body: dict) -> tuple[int, dict[str, str], bytes] | None:
        if body["messages"][-1]["content"] == "kills":
            down[0] = 3
        down[0] -= down[0] > 0
        return (503, {}, b"starting") if down[0] else None

    server.respond = respond
    reply = await make_client(attempts=2).complete(request("kills"))

    assert reply.error is not None
    assert (reply.error["code"], server.asked["kills"]) == ("http_503", 8)


async def test_complete_pay_once_during_an_outage_settles_an_unsure_request(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    caller = make_client(query_seconds=3.0)
    await caller.complete(request("answered"))
    server.respond = lambda body: (502, {}, b"lost on the way")

    paid = await caller.complete(request("lost"), pay_once=True)
    with pytest.raises(EndpointAccessError, match="lost on the way"):
        await caller.complete(request("lost too"))

    assert paid.error is not None
    assert (paid.error["code"], paid.unsure) == ("http_502", True)
    assert "the endpoint answers neither queries" in str(paid.stop)


async def test_complete_answer_without_usage_is_not_counted(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults["free?"].append("uncounted")

    reply = await make_client().complete(request("free?"))

    assert reply.body is not None
    assert not reply.counted


async def test_complete_rate_limit_delays_all_queries(
    make_client: Callable[..., EndpointClient], server: ChatServer, pauses: list[float]
):
    server.faults["limited"].extend(["429"] * 4)
    server.retry_after = "7"
    caller = make_client(attempts=2)

    reply = await caller.complete(request("limited"))
    other = await caller.complete(request("another"))

    assert reply.body is not None
    assert other.body is not None
    assert reply.attempts == 1  # those that came too fast are not counted
    assert [pause for pause in pauses if pause == 7.0] == [7.0] * 4
    assert 7.0 < pauses[-1] <= 8.0


@pytest.mark.parametrize(
    "value",
    ["3600", "86400", str(int(time()) + 3600), formatdate(time() + 3600)],
    ids=["hour", "day", "unix-time", "date"],
)
async def test_complete_rate_limit_longer_than_query_seconds_raises_access_error(
    value: str, make_client: Callable[..., EndpointClient], server: ChatServer, pauses: list[float]
):
    caller = make_client(query_seconds=60)
    await caller.complete(request("before it"))
    server.faults["too long"].append("429")
    server.retry_after = value

    with pytest.raises(EndpointAccessError, match=r"rate limit: .*refused with 429, .*retry in \d+ s"):
        await caller.complete(request("too long"))

    assert pauses == []


async def test_complete_lasting_rate_limit_fails_a_query_only_if_others_are_answered(server: ChatServer):
    server.retry_after = "0"
    server.faults["limited on"].extend(["429"] * 99)
    server.faults["limited all"].extend(["429"] * 99)
    client = openai.AsyncOpenAI(api_key="secret", base_url=server.url, max_retries=0)
    others: list[EndpointReply] = []

    async def sleep(seconds: float) -> None:
        if not others:
            others.append(EndpointReply())
            others[0] = await caller.complete(request("let in"))

    caller = EndpointClient(client, Limits(query_seconds=10.0, first_pause=3.0), sleep, draw=lambda: 1.0)
    caller._limits = replace(caller._limits, longest_pause=20.0)

    reply = await caller.complete(request("limited on"))
    assert reply.error is not None
    assert (reply.error["code"], others[0].error) == ("http_429", None)
    with pytest.raises(EndpointAccessError, match="rate limit"):
        await caller.complete(request("limited all"))


@pytest.mark.parametrize("value", ["0", "-1", "1700000000", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_complete_retry_after_zero_uses_the_default_pause(
    value: str, make_client: Callable[..., EndpointClient], server: ChatServer, pauses: list[float]
):
    server.faults[f"at once {value}"].extend(["429"] * 4)
    server.retry_after = value

    reply = await make_client().complete(request(f"at once {value}"))

    assert reply.body is not None
    # before each request also the time that all have to wait
    assert [pause for pause in pauses if pause in (0.5, 1.0, 2.0, 4.0)] == [0.5, 1.0, 2.0, 4.0]


async def test_complete_request_that_hangs_times_out(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults["hangs"].append("hang")

    reply = await make_client(request_seconds=0.2).complete(request("hangs"))

    assert reply.body is not None
    assert (reply.attempts, server.asked["hangs"]) == (2, 2)


async def test_complete_permanent_error_is_not_retried(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults["bad"].append("400")

    reply = await make_client().complete(request("bad"))

    value = {"error": {"message": "refused with 400", "type": "test", "code": None}}
    error = {
        "code": "http_400",
        "message": "Error code: 400 - refused with 400",
        "status": 400,
        "body": value,
    }
    assert reply == EndpointReply(error=error, attempts=1, probe_tokens=ANSWER_TOKENS)
    assert server.asked["bad"] == 1
    # the plain request that shows that the endpoint answers others is paid with the query
    assert server.requests[-1] == plain_request("m", 5)


async def test_complete_attempts_are_limited(make_client: Callable[..., EndpointClient], server: ChatServer):
    server.faults["down"].extend(["500"] * 9)

    reply = await make_client(attempts=3).complete(request("down"))

    assert reply.error is not None
    assert (reply.error["code"], reply.attempts, server.asked["down"]) == ("http_500", 3, 3)


@pytest.mark.parametrize(("status", "text"), [("401", "api_key"), ("402", "credit"), ("404", "base_url")])
async def test_complete_wrong_key_account_or_model_raises_access_error(
    status: str, text: str, make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults["set up"].append(status)

    with pytest.raises(EndpointAccessError, match=text):
        await make_client().complete(request("set up"))


async def test_complete_request_that_cannot_be_encoded_fails_that_query(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    caller, probes = make_client(), server.asked[PLAIN_PROMPT]

    odd = await caller.complete(request("odd") | {"seed": object()})
    reply = await caller.complete(request("not odd"))

    assert odd.error is not None
    assert (odd.error["code"], odd.attempts, odd.unsure) == ("invalid_request", 1, True)
    assert "not JSON serializable" in odd.error["message"]
    assert reply.body is not None
    assert server.asked[PLAIN_PROMPT] == probes, "that is found out without the endpoint"


async def test_complete_no_request_can_be_sent_raises_without_the_key(server: ChatServer):
    client = openai.AsyncOpenAI(api_key="ключ", base_url=server.url, max_retries=0)

    with pytest.raises(EndpointAccessError, match="no request can be sent") as raised:
        await EndpointClient(client, Limits()).complete(request("anything"))
    assert "ключ" not in str(raised.value)

    client = openai.AsyncOpenAI(api_key="x", base_url="no-address/v1", max_retries=0)
    with pytest.raises(EndpointAccessError, match="base_url"):
        await EndpointClient(client, Limits()).complete(request("anything"))


async def test_complete_answer_nested_too_deeply_is_a_failure(
    make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults["deep"].append("deep")

    reply = await make_client(attempts=1).complete(request("deep"))

    assert reply.error is not None
    assert "nested too deeply" in reply.error["message"]
    assert reply.tokens == ANSWER_TOKENS
