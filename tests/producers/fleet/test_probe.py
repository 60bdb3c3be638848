"""Faults of failed requests: of the query or of the endpoint."""

import asyncio
from collections.abc import Callable

import openai
import orjson
import pytest

from producers.fleet.endpoint import EndpointClient, Limits
from producers.fleet.failures import EndpointAccessError
from producers.fleet.messages import Tokens
from tests.producers.fleet.chat_server import (
    ANSWER_TOKENS,
    PLAIN_PROMPT,
    ChatServer,
    chat_server,
    request,
)


@pytest.mark.parametrize("pay_once", [False, True])
async def test_probe_queries_failing_together_send_one_plain_request(
    pay_once: bool, make_client: Callable[..., EndpointClient], server: ChatServer
):
    caller, before = make_client(attempts=2), server.asked[PLAIN_PROMPT]
    server.respond = lambda body: (200, {}, b"<html>Please sign in</html>")

    asking = [caller.complete(request(f"together {i}"), pay_once=pay_once) for i in range(8)]
    errors = await asyncio.gather(*asking, return_exceptions=True)

    assert {type(refused) for refused in errors} == {EndpointAccessError}
    assert server.asked[PLAIN_PROMPT] - before == 1


async def test_probe_permission_never_granted_raises_at_once(
    make_client: Callable[..., EndpointClient], server: ChatServer, pauses: list[float]
):
    server.respond = lambda body: (403, {}, b'{"error": {"message": "no access to this LLM"}}')

    with pytest.raises(EndpointAccessError, match="no access to this LLM"):
        await make_client().complete(request("never let in"))

    assert pauses == []


@pytest.mark.parametrize("status", ["403", "404"])
async def test_probe_permission_withdrawn_waits_then_raises(
    status: str, make_client: Callable[..., EndpointClient], server: ChatServer, pauses: list[float]
):
    server.faults[f"out {status}"].extend([status] * 9)
    server.faults[PLAIN_PROMPT].extend([status] * 9)
    caller = make_client(request_seconds=2.5)
    await caller.complete(request("first"))
    before = server.asked[PLAIN_PROMPT]

    with pytest.raises(EndpointAccessError, match=f"refused with {status}.*denies access now"):
        await caller.complete(request(f"out {status}"))

    assert pauses == [0.5, 1.0, 2.0][: len(pauses)]
    assert server.asked[PLAIN_PROMPT] - before == len(pauses) + 1 > 1, "it may have been for a moment"
    server.faults[PLAIN_PROMPT].clear()


@pytest.mark.parametrize("status", ["400", "403", "404", "422"])
async def test_probe_others_answered_fails_the_query_without_plain_request(status: str):
    with chat_server() as server:
        server.faults["flagged"].append(status)
        server.held.add("slow")
        client = openai.AsyncOpenAI(api_key="secret", base_url=server.url, max_retries=0)
        caller = EndpointClient(client, Limits())
        await caller.complete(request("before"))
        slow = asyncio.create_task(caller.complete(request("slow")))
        refused = asyncio.create_task(caller.complete(request("flagged")))
        while not server.asked["flagged"]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

        other = await caller.complete(request("another"))
        reply = await refused
        server.release()
        await slow

    assert reply.error is not None
    assert (reply.error["code"], reply.attempts, reply.probe_tokens) == (f"http_{status}", 1, Tokens())
    assert (other.error, server.asked[PLAIN_PROMPT]) == (None, 0), "that shows it, and costs nothing"


@pytest.mark.parametrize("status", ["400", "403", "404", "422"])
async def test_probe_single_query_refused_fails_the_query(
    status: str, make_client: Callable[..., EndpointClient], server: ChatServer
):
    server.faults[f"alone {status}"].append(status)
    caller = make_client()
    await caller.complete(request("before"))

    reply = await caller.complete(request(f"alone {status}"))

    assert reply.error is not None
    assert (reply.error["code"], reply.probe_tokens) == (f"http_{status}", ANSWER_TOKENS)


@pytest.mark.parametrize("code", ["context_length_exceeded", "content_filter"])
async def test_probe_error_about_the_query_needs_no_plain_request(
    code: str, make_client: Callable[..., EndpointClient], server: ChatServer
):
    probes = server.asked[PLAIN_PROMPT]
    body = {"error": {"message": "not this", "type": "invalid_request_error", "code": code}}
    server.respond = lambda sent: (400, {}, orjson.dumps(body))

    reply = await make_client().complete(request("too much"))

    assert reply.error is not None
    assert (reply.error["code"], server.asked[PLAIN_PROMPT]) == (code, probes)
