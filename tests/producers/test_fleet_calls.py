"""Asking an endpoint that fails in the ways that real ones do."""

from collections.abc import Callable, Iterator
from email.utils import formatdate
from time import time

import openai
import pytest

from producers.fleet_calls import Caller, EndpointRefusesUs, Limits, Reply, retry_after
from producers.fleet_messages import Tokens
from tests.producers.chat_server import COMPLETION_TOKENS, PROMPT_TOKENS, ChatServer, chat_server

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
    reply = await make_caller().ask(request("hello"), {"traceparent": "00-1-2-01"})

    assert reply.body is not None
    assert reply.body["choices"][0]["message"]["content"] == "HELLO"
    assert (reply.tokens, reply.counted, reply.attempts, reply.error) == (ONCE, True, 1, None)
    assert server.requests[-1] == request("hello")
    assert server.headers[-1]["traceparent"] == "00-1-2-01"
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

    reply = await make_caller(pay_once=True).ask(request("bounded"))

    assert (reply.tokens, reply.attempts) == (ONCE, 2)


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

    assert reply.error == {"code": "http_429", "message": "Error code: 429 - refused with 429"}
    assert pauses == []


async def test_a_request_that_hangs_is_given_up(make_caller: Callable[..., Caller], server: ChatServer):
    server.faults["hangs"].append("hang")

    reply = await make_caller(request_seconds=0.2).ask(request("hangs"))

    assert reply.body is not None
    assert (reply.attempts, server.asked["hangs"]) == (2, 2)


async def test_what_cannot_succeed_is_not_tried_again(make_caller: Callable[..., Caller], server: ChatServer):
    server.faults["bad"].append("400")

    reply = await make_caller().ask(request("bad"))

    assert reply == Reply(
        error={"code": "http_400", "message": "Error code: 400 - refused with 400"}, attempts=1
    )
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


async def test_an_llm_that_answered_before_is_not_missing(
    make_caller: Callable[..., Caller], server: ChatServer
):
    server.faults["gone"].append("404")
    caller = make_caller()
    await caller.ask(request("first"))

    reply = await caller.ask(request("gone"))

    assert reply.error is not None
    assert reply.error["code"] == "http_404"


def test_dates_to_retry_after():
    assert 55 < (retry_after({"retry-after": formatdate(time() + 60, usegmt=True)}) or 0) <= 60
    assert retry_after({"retry-after": formatdate(time() - 60)}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "-5"}) is None
