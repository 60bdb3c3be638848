"""Parameters sent to an endpoint: the name of the limit is the endpoint's, its value the query's."""

from collections.abc import Callable, Iterator
from typing import Any

import openai
import orjson
import pytest

from producers.fleet.__main__ import parser
from producers.fleet.endpoint import EndpointClient, Limits
from producers.fleet.failures import EndpointAccessError
from producers.fleet.parameters import EndpointParameters
from tests.producers.fleet.chat_server import ChatServer, chat_server, completion

LIMIT = 50


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture
def make_caller(server: ChatServer) -> Callable[..., EndpointClient]:
    def make(**options: Any) -> EndpointClient:
        client = openai.AsyncOpenAI(api_key="secret", base_url=server.url, max_retries=0)
        return EndpointClient(client, Limits(attempts=2), parameters=EndpointParameters(**options))

    return make


def query(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": LIMIT, **fields}


def limits(server: ChatServer) -> list[dict[str, int]]:
    return [{name: most for name, most in request.items() if "max" in name} for request in server.requests]


def refuses(*names: str) -> Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes] | None]:
    """An endpoint that takes none of these parameters."""

    def respond(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
        for name in names:
            if name in body:
                error = {
                    "message": f"Unsupported parameter: '{name}'",
                    "code": "unsupported_parameter",
                    "param": name,
                }
                return 400, {}, orjson.dumps({"error": error})
        return None

    return respond


def ignores(*names: str) -> Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]]:
    """An endpoint that answers with as many tokens as it likes, unless another name says how many."""

    def respond(sent: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        known = [
            sent[name]
            for name in ("max_tokens", "max_completion_tokens")
            if name in sent and name not in names
        ]
        body = orjson.loads(completion("hi", "m"))
        spent = min([4096, *known])
        body["usage"] = {"prompt_tokens": 10, "completion_tokens": spent, "total_tokens": 10 + spent}
        return 200, {}, orjson.dumps(body)

    return respond


async def test_parameters_refused_name_is_replaced(
    make_caller: Callable[..., EndpointClient], server: ChatServer
):
    server.respond = refuses("max_tokens")
    caller = make_caller()

    replies = [await caller.complete(query(), pay_once=True) for _ in range(3)]

    assert [(reply.error, reply.attempts) for reply in replies] == [(None, 1)] * 3
    assert limits(server) == [{"max_tokens": LIMIT}, *[{"max_completion_tokens": LIMIT}] * 3]


@pytest.mark.parametrize(
    "asked", [{}, {"max_tokens": None, "max_completion_tokens": LIMIT}, {"max_completion_tokens": 99}]
)
async def test_parameters_ignored_newer_name_is_replaced(
    asked: dict[str, Any], make_caller: Callable[..., EndpointClient], server: ChatServer
):
    server.respond = ignores("max_completion_tokens")

    reply = await make_caller().complete(query(**asked), pay_once=True)

    assert limits(server) == [{"max_tokens": LIMIT}]
    assert reply.tokens.completion == LIMIT


async def test_parameters_exceeded_limit_is_sent_under_both_names(
    make_caller: Callable[..., EndpointClient], server: ChatServer
):
    server.respond = ignores("max_tokens")
    caller = make_caller()

    replies = [await caller.complete(query()) for _ in range(2)]

    assert [reply.tokens.completion for reply in replies] == [4096, LIMIT]
    assert limits(server)[1] == {"max_tokens": LIMIT, "max_completion_tokens": LIMIT}


async def test_parameters_both_names_refused_together_sends_one(
    make_caller: Callable[..., EndpointClient], server: ChatServer
):
    ignoring = ignores("max_tokens")

    def respond(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if {"max_tokens", "max_completion_tokens"} <= set(body):
            text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            return 400, {}, orjson.dumps({"error": {"message": text}})
        return ignoring(body)

    server.respond = respond
    caller = make_caller()

    replies = [await caller.complete(query()) for _ in range(3)]

    assert [reply.tokens.completion for reply in replies] == [4096, LIMIT, LIMIT]
    assert limits(server)[-1] == {"max_completion_tokens": LIMIT}


async def test_parameters_refused_value_keeps_the_name(
    make_caller: Callable[..., EndpointClient], server: ChatServer
):
    def respond(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
        if body["max_tokens"] <= 40:
            return None
        text = "max_tokens is too large: 50. This model supports at most 40 completion tokens"
        return 400, {}, orjson.dumps({"error": {"message": text, "param": "max_tokens"}})

    server.respond = respond
    reply = await make_caller().complete(query())

    assert reply.error is not None
    assert "too large" in reply.error["message"]
    assert all("max_completion_tokens" not in request for request in server.requests)


async def test_parameters_no_limit_accepted_raises_access_error(
    make_caller: Callable[..., EndpointClient], server: ChatServer
):
    server.respond = refuses("max_tokens", "max_completion_tokens")
    with pytest.raises(EndpointAccessError, match="Unsupported parameter"):
        await make_caller().complete(query())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_parameters_explicit_name_is_used(
    name: str, make_caller: Callable[..., EndpointClient], server: ChatServer
):
    await make_caller(limit=name).complete(query(max_completion_tokens=70))
    assert limits(server) == [{name: LIMIT}]


async def test_parameters_dropped_parameters_are_not_sent(
    make_caller: Callable[..., EndpointClient], server: ChatServer
):
    server.respond = refuses("temperature", "top_p")

    reply = await make_caller(drop={"temperature", "top_p"}).complete(
        query(temperature=0.5, top_p=0.1, seed=7)
    )

    assert reply.error is None
    assert server.requests == [query(seed=7)]


def test_parser_parameter_options_are_parsed():
    given = ["--llm", "a", "--base-url", "u"]
    assert parser().parse_args(given).limit_parameter == "auto"
    options = parser().parse_args(
        [*given, "--drop-parameters", "temperature, top_p", "--limit-parameter", "max_tokens"]
    )
    assert (options.drop_parameters, options.limit_parameter) == ({"temperature", "top_p"}, "max_tokens")


@pytest.mark.parametrize("name", ["model", "messages", "max_tokens"])
def test_parser_reserved_parameters_cannot_be_dropped(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parser().parse_args(["--llm", "a", "--base-url", "u", "--drop-parameters", name])
    assert f"{name} cannot be left out" in capsys.readouterr().err
