"""What a fleet asks for a query, and what it takes from the message: never more than was reserved."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from producers.fleet_calls import Reply
from producers.fleet_messages import Pricing, Tokens, Work, chat_request, encode_spent, read_work
from producers.fleet_worker import Llm
from streams.messages import Refused

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def work(bound: Any = None, headers: Any = (), cost: float = 0.5, **fields: Any) -> Work:
    routing = {"partition": 0, "offset": 1, "cost": cost}
    if bound is not None:
        routing["max_tokens"] = bound
    return read_work(orjson.dumps({"id": "a", "prompt": "Why?", **fields, "routing": routing}), headers)


def limits(**given: Any) -> dict[str, Any]:
    asked = chat_request(work(**given), "m")
    return {name: asked[name] for name in ("max_tokens", "max_completion_tokens") if name in asked}


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, {}),
        ({"bound": 10}, {"max_tokens": 10}),
        ({"max_tokens": 10}, {"max_tokens": 10}),
        # a router of other defaults has the last word
        ({"bound": 10, "max_tokens": 20}, {"max_tokens": 10}),
        ({"parameters": {"max_tokens": 7}}, {"max_tokens": 7}),
        ({"bound": 10, "parameters": {"max_tokens": 100_000}}, {"max_tokens": 10}),
        ({"bound": 10, "parameters": {"max_completion_tokens": 5}}, {"max_completion_tokens": 5}),
        ({"bound": 10, "parameters": {"max_completion_tokens": None}}, {"max_tokens": 10}),
        (
            {"bound": 10, "parameters": {"max_completion_tokens": 5, "max_tokens": 100_000}},
            {"max_completion_tokens": 5},
        ),
        (
            {"bound": 10, "parameters": {"max_completion_tokens": 100_000, "max_tokens": 3}},
            {"max_completion_tokens": 3},
        ),
    ],
)
def test_one_limit_is_asked_for_and_it_is_the_least(given: dict[str, Any], asked: dict[str, Any]):
    assert limits(**given) == asked


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("most", [-1, 0, True, 5.0, "5", [5], {}])
def test_a_limit_that_bounds_nothing_is_no_limit(name: str, most: object):
    with pytest.raises(ValueError, match=rf"parameters.{name}: .* must be a whole number above 0"):
        chat_request(work(bound=10, parameters={name: most}), "m")


@pytest.mark.parametrize("bound", [0, -1, True, "9", 1.5])
def test_a_bound_that_the_router_cannot_have_written_is_refused(bound: object):
    with pytest.raises(Refused, match=r"routing\.max_tokens"):
        work(bound=bound)


def test_what_is_too_deep_to_be_sent_is_told():
    deep = orjson.loads(b"[" * 500 + b"]" * 500)
    with pytest.raises(ValueError, match="messages, parameters: cannot be written"):
        chat_request(replace(work(), fields={"prompt": "?", "parameters": {"stop": deep}}), "m")


def test_trace_headers_go_on_where_they_are_some():
    own = [("traceparent", TRACE), ("tracestate", b"vendor=1,other=2"), ("authorization", b"mine")]
    assert work(headers=own).trace == {"traceparent": TRACE.decode(), "tracestate": "vendor=1,other=2"}
    future = [("traceparent", TRACE.replace(b"00-", b"01-", 1) + b"-more")]
    assert list(work(headers=future).trace) == ["traceparent"]


@pytest.mark.parametrize(
    "header",
    [
        ("traceparent", b"\xff"),
        ("traceparent", None),
        ("traceparent", b""),
        ("traceparent", TRACE + b"\n"),
        ("traceparent", TRACE.upper()),
        ("traceparent", b"ff" + TRACE[2:]),
        ("tracestate", "é=1".encode()),
        ("tracestate", b"a=1\r\nauthorization: mine"),
        ("tracestate", b"a=" + b"x" * 600),
    ],
)
def test_what_is_no_trace_stays_here(header: tuple[str, bytes | None]):
    assert work(headers=[header]).trace == {}


@pytest.mark.parametrize(
    ("bound", "reply", "cost"),
    [
        # 2 USD a million tokens of the prompt, 10 of the answer
        (None, Reply(body={}, tokens=Tokens(10, 10), counted=True), 120e-6),
        (9, Reply(body={}, tokens=Tokens(10, 10), counted=True), 120e-6),
        (9, Reply(body={}), 0.5),
        # nobody tells what a request cost that timed out: of a bound it may have been all
        (9, Reply(unsure=True), 0.5),
        (None, Reply(unsure=True), 0.0),
        (9, Reply(), 0.0),
        (9, Reply(tokens=Tokens(10, 0)), 20e-6),
    ],
)
def test_what_an_answer_cost(bound: int | None, reply: Reply, cost: float):
    assert Llm("m", "m", lambda: Pricing(2.0, 10.0)).cost(work(bound=bound), reply) == pytest.approx(cost)


def test_without_prices_what_was_reserved_is_the_cost_of_all_that_was_answered():
    llm = Llm("m", "m", lambda: None)
    for reply, cost in ((Reply(body={}), 0.5), (Reply(tokens=Tokens(1, 1)), 0.5), (Reply(), 0.0)):
        assert llm.cost(work(), reply) == cost


def test_a_bound_beyond_what_outcomes_can_tell_stays_reserved():
    assert encode_spent(work(bound=9, cost=3000.0), "m", 3000.0) is None
    told = encode_spent(work(cost=3000.0), "m", 3000.0)
    assert told is not None
    assert orjson.loads(told)["cost"] == 1000.0
