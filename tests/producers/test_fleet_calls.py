"""Asking an endpoint that fails in the ways that real ones do."""

from collections.abc import Callable, Iterator
from email.utils import formatdate
from time import time

import openai
import pytest

from producers.fleet_calls import Caller, Limits, Reply
from producers.fleet_failures import EndpointRefusesUs, retry_after
from producers.fleet_messages import Tokens
from tests.producers.chat_server import COMPLETION_TOKENS, PROMPT_TOKENS, ChatServer, chat_server

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ONCE = Tokens(PROMPT_TOKENS, COMPLETION_TOKENS)


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def make_caller(server: ChatServer, pauses: list[float]) -> Callable[..., Caller]:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    def make(**limits: float) -> Caller:
        client = openai.AsyncOpenAI(api_key="secret", base_url=server.url, max_retries=0, timeout=None)
        return Caller(client, Limits(**limits), sleep, draw=lambda: 1.0)  # type: ignore[arg-type]

    return make


def request(prompt: str) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 5, "top_p": 0.5}


async def test_a_whole_answer(make_caller: Callable[..., Caller], server: ChatServer):
    reply = await make_caller().ask(request("hello"), {"traceparent": TRACE})

    assert reply.body is not None
    assert reply.body["choices"][0]["message"]["content"] == "HELLO"
    assert (reply.tokens, reply.counted, reply.attempts, reply.error) == (ONCE, True, 1, None)
    assert server.requests[-1] == request("hello")
    assert server.headers[-1]["traceparent"] == TRACE
    assert server.headers[-1]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("fault", ["500", "cut", "broken"])
async def test_what_passes_is_tried_again(
    fault: str, make_caller: Callable[..., Caller], server: ChatServer, pauses: list[float]
):
    prompt = f"after {fault}"
    server.faults[prompt].extend([fault, fault])

    reply = await make_caller().ask(request(prompt))

    assert reply.body is not None
    assert (reply.tokens, reply.attempts, server.asked[prompt]) == (ONCE, 3, 3)
    assert pauses == [0.5, 1.0]


async def test_half_an_answer_whose_tokens_were_counted_is_paid_for(
    make_caller: Callable[..., Caller], server: ChatServer
):
    server.faults["half"].extend(["unfinished"] * 2)
    server.faults["never whole"].extend(["unfinished"] * 9)

    reply, failed = [await make_caller(attempts=3).ask(request(prompt)) for prompt in ("half", "never whole")]

    assert reply.body is not None
    assert reply.tokens == Tokens(3 * PROMPT_TOKENS, 3 * COMPLETION_TOKENS)
    assert failed.body is None
    assert failed.tokens == reply.tokens
    assert failed.error is not None
    assert failed.error["code"] == "half_answer"


async def test_where_an_answer_may_be_paid_for_once_only(
    make_caller: Callable[..., Caller], server: ChatServer
):
    server.faults["bounded"].extend(["500", "unfinished", "unfinished"])

    reply = await make_caller().ask(request("bounded"), pay_once=True)

    assert (reply.tokens, reply.attempts, reply.unsure) == (ONCE, 2, False)


@pytest.mark.parametrize("fault", ["hang", "cut", "broken", "502", "504"])
async def test_what_may_have_been_paid_for_is_asked_again_only_where_that_may_be(
    fault: str, make_caller: Callable[..., Caller], server: ChatServer
):
    server.faults[f"once {fault}"].extend(["429", "503", fault])
    server.faults[f"again {fault}"].append(fault)
    caller = make_caller(request_seconds=0.3)

    bounded = await caller.ask(request(f"once {fault}"), pay_once=True)
    other = await caller.ask(request(f"again {fault}"))

    # refused with a status is not paid for: those were asked again
    assert (bounded.body, bounded.unsure, server.asked[f"once {fault}"]) == (None, True, 3)
    assert other.body is not None
    assert (other.unsure, server.asked[f"again {fault}"]) == (True, 2)


async def test_what_could_not_be_sent_is_not_paid_for():
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    client = openai.AsyncOpenAI(api_key="x", base_url="http://127.0.0.1:1/v1", max_retries=0)
    reply = await Caller(client, Limits(attempts=3), sleep).ask(request("anyone?"), pay_once=True)

    assert (reply.attempts, len(paused), reply.unsure) == (3, 2, False)


async def test_an_answer_without_usage_says_so(make_caller: Callable[..., Caller], server: ChatServer):
    server.faults["free?"].append("uncounted")

    reply = await make_caller().ask(request("free?"))

    assert reply.body is not None
    assert not reply.counted


async def test_a_rate_limit_is_waited_out_and_holds_for_all(
    make_caller: Callable[..., Caller], server: ChatServer, pauses: list[float]
):
    server.faults["limited"].extend(["429"] * 4)
    server.retry_after = "7"
    caller = make_caller(attempts=2)

    reply = await caller.ask(request("limited"))
    other = await caller.ask(request("another"))

    assert reply.body is not None
    assert other.body is not None
    assert reply.attempts == 1  # those that came too fast are not counted
    assert [pause for pause in pauses if pause == 7.0] == [7.0] * 4
    assert 7.0 < pauses[-1] <= 8.0


async def test_a_rate_limit_beyond_the_time_of_a_query_fails_it(
    make_caller: Callable[..., Caller], server: ChatServer, pauses: list[float]
):
    server.faults["too long"].append("429")
    server.retry_after = "3600"

    reply = await make_caller(query_seconds=60).ask(request("too long"))

    assert reply.error is not None
    assert (reply.error["code"], reply.error["status"]) == ("http_429", 429)
    assert pauses == []


@pytest.mark.parametrize("told", ["0", "-1", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_to_come_back_at_once_is_to_come_back_after_the_usual_pause(
    told: str, make_caller: Callable[..., Caller], server: ChatServer, pauses: list[float]
):
    server.faults[f"at once {told}"].extend(["429"] * 4)
    server.retry_after = told

    reply = await make_caller().ask(request(f"at once {told}"))

    assert reply.body is not None
    # before each request also the time that all have to wait
    assert [pause for pause in pauses if pause in (0.5, 1.0, 2.0, 4.0)] == [0.5, 1.0, 2.0, 4.0]


async def test_a_request_that_hangs_is_given_up(make_caller: Callable[..., Caller], server: ChatServer):
    server.faults["hangs"].append("hang")

    reply = await make_caller(request_seconds=0.2).ask(request("hangs"))

    assert reply.body is not None
    assert (reply.attempts, server.asked["hangs"]) == (2, 2)


async def test_what_cannot_succeed_is_not_tried_again(make_caller: Callable[..., Caller], server: ChatServer):
    server.faults["bad"].append("400")

    reply = await make_caller().ask(request("bad"))

    told = {"error": {"message": "refused with 400", "type": "test", "code": None}}
    error = {
        "code": "http_400", "message": "Error code: 400 - refused with 400", "status": 400, "body": told,
    }  # fmt: skip
    assert reply == Reply(error=error, attempts=1)
    assert server.asked["bad"] == 1


async def test_attempts_are_bounded(make_caller: Callable[..., Caller], server: ChatServer):
    server.faults["down"].extend(["500"] * 9)

    reply = await make_caller(attempts=3).ask(request("down"))

    assert reply.error is not None
    assert (reply.error["code"], reply.attempts, server.asked["down"]) == ("http_500", 3, 3)


async def test_an_endpoint_that_is_away(make_caller: Callable[..., Caller]):
    client = openai.AsyncOpenAI(api_key="x", base_url="http://127.0.0.1:1/v1", max_retries=0)

    reply = await Caller(client, Limits(attempts=1)).ask(request("anyone?"))

    assert reply.error is not None
    assert reply.error["code"] == "connection"


@pytest.mark.parametrize(("status", "text"), [("401", "api_key"), ("402", "credit"), ("404", "base_url")])
async def test_a_wrong_set_up_stops_everything(
    status: str, text: str, make_caller: Callable[..., Caller], server: ChatServer
):
    server.faults["set up"].append(status)

    with pytest.raises(EndpointRefusesUs, match=text):
        await make_caller().ask(request("set up"))


@pytest.mark.parametrize("status", ["403", "404"])
async def test_who_was_let_in_before_and_is_not_any_more_stops_and_fails_no_query(
    status: str, make_caller: Callable[..., Caller], server: ChatServer, pauses: list[float]
):
    server.faults[f"out {status}"].extend([status] * 9)
    caller = make_caller(request_seconds=2.5)
    await caller.ask(request("first"))

    with pytest.raises(EndpointRefusesUs, match="lets nobody in any more"):
        await caller.ask(request(f"out {status}"))

    assert pauses == [0.5, 1.0, 2.0][: len(pauses)]
    assert server.asked[f"out {status}"] == len(pauses) + 1 > 1, "it may have been for a moment"


@pytest.mark.parametrize("status", ["403", "404"])
async def test_a_query_that_is_refused_while_others_get_in_has_failed_by_itself(
    status: str, server: ChatServer
):
    server.faults[f"flagged {status}"].extend([status] * 2)
    client = openai.AsyncOpenAI(api_key="secret", base_url=server.url, max_retries=0)
    caller: Caller

    async def sleep(seconds: float) -> None:
        assert (await caller.ask(request("another"))).body is not None

    caller = Caller(client, Limits(), sleep)
    await caller.ask(request("before"))

    reply = await caller.ask(request(f"flagged {status}"))

    assert reply.error is not None
    assert (reply.error["code"], reply.attempts) == (f"http_{status}", 2)


async def test_what_only_one_request_breaks_fails_that_one(
    make_caller: Callable[..., Caller], server: ChatServer
):
    caller = make_caller()

    odd = await caller.ask(request("odd") | {"seed": object()})
    reply = await caller.ask(request("not odd"))

    assert odd.error is not None
    assert (odd.error["code"], odd.attempts, odd.unsure) == ("invalid_request", 1, True)
    assert "TypeError" in odd.error["message"]
    assert reply.body is not None
    assert server.asked["Does asking work?"] == 0, "that is found out without the endpoint"


async def test_what_breaks_every_request_stops_us_and_does_not_tell_the_key(server: ChatServer):
    client = openai.AsyncOpenAI(api_key="ключ", base_url=server.url, max_retries=0)

    with pytest.raises(EndpointRefusesUs, match="not even a plain request can be made") as told:
        await Caller(client, Limits()).ask(request("anything"))
    assert "ключ" not in str(told.value)

    client = openai.AsyncOpenAI(api_key="x", base_url="no-address/v1", max_retries=0)
    with pytest.raises(EndpointRefusesUs, match="base_url"):
        await Caller(client, Limits()).ask(request("anything"))


async def test_an_answer_that_cannot_be_written_down_is_none(
    make_caller: Callable[..., Caller], server: ChatServer
):
    server.faults["deep"].append("deep")

    reply = await make_caller(attempts=1).ask(request("deep"))

    assert reply.error is not None
    assert "nested too deeply" in reply.error["message"]
    assert reply.tokens == ONCE


def test_dates_to_retry_after():
    assert 55 < (retry_after({"retry-after": formatdate(time() + 60, usegmt=True)}) or 0) <= 60
    assert retry_after({"retry-after": formatdate(time() - 60)}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "-5"}) is None
