"""Requests for routed queries, and their costs: never more than was reserved."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from producers.fleet.endpoint import EndpointReply
from producers.fleet.messages import (
    Pricing,
    RoutedQuery,
    Tokens,
    chat_request,
    decode_routed_query,
    encode_answer,
    encode_spent,
)
from producers.fleet.worker import FleetModel, answer_fields
from streams.messages import exact_json
from streams.messages.rejection import (
    RejectedMessage,
)

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def work(bound: Any = None, headers: Any = (), cost: float = 0.5, **fields: Any) -> RoutedQuery:
    routing = {"partition": 0, "offset": 1, "cost": cost}
    if bound is not None:
        routing["max_tokens"] = bound
    return decode_routed_query(
        orjson.dumps({"id": "a", "prompt": "Why?", **fields, "routing": routing}), headers
    )


def limits(**given: Any) -> dict[str, Any]:
    request = chat_request(work(**given), "m")
    return {name: request[name] for name in ("max_tokens", "max_completion_tokens") if name in request}


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
        ({"bound": 10, "parameters": {"max_completion_tokens": 5}}, {"max_tokens": 5}),
        ({"bound": 10, "parameters": {"max_completion_tokens": None}}, {"max_tokens": 10}),
        (
            {"bound": 10, "parameters": {"max_completion_tokens": 5, "max_tokens": 100_000}},
            {"max_tokens": 5},
        ),
        (
            {"bound": 10, "parameters": {"max_completion_tokens": 100_000, "max_tokens": 3}},
            {"max_tokens": 3},
        ),
    ],
)
def test_chat_request_several_limits_use_the_minimum(given: dict[str, Any], asked: dict[str, Any]):
    assert limits(**given) == asked


def test_limit_of_a_percentile_is_sent_and_is_no_bound():
    value = {"id": "a", "prompt": "Why?", "routing": {"partition": 0, "offset": 1, "max_tokens": 9}}
    bounded = decode_routed_query(orjson.dumps(value), ())
    value["routing"]["reserve"] = "p95"
    limited = decode_routed_query(orjson.dumps(value), ())
    assert (bounded.bound, limited.bound) == (9, None), "only a bounded query is not asked again"
    assert chat_request(limited, "m")["max_tokens"] == chat_request(bounded, "m")["max_tokens"] == 9


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("most", [-1, 0, True, 5.0, "5", [5], {}])
def test_chat_request_invalid_limit_is_rejected(name: str, most: object):
    with pytest.raises(ValueError, match=rf"parameters.{name}: .* must be a whole number above 0"):
        chat_request(work(bound=10, parameters={name: most}), "m")


@pytest.mark.parametrize("bound", [0, -1, True, "9", 1.5])
def test_decode_routed_query_invalid_bound_is_rejected(bound: object):
    with pytest.raises(RejectedMessage, match=r"routing\.max_tokens"):
        work(bound=bound)


def test_chat_request_nested_too_deeply_is_rejected():
    deep = orjson.loads(b"[" * 500 + b"]" * 500)
    with pytest.raises(ValueError, match="messages, parameters: cannot be encoded"):
        chat_request(replace(work(), fields={"prompt": "?", "parameters": {"stop": deep}}), "m")


def test_routed_query_valid_trace_headers_are_forwarded():
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
def test_routed_query_invalid_trace_headers_are_dropped(header: tuple[str, bytes | None]):
    assert work(headers=[header]).trace == {}


@pytest.mark.parametrize(
    ("bound", "reply", "cost"),
    [
        # 2 USD a million tokens of the prompt, 10 of the answer
        (None, EndpointReply(body={}, tokens=Tokens(10, 10), counted=True), 120e-6),
        (9, EndpointReply(body={}, tokens=Tokens(10, 10), counted=True), 120e-6),
        (9, EndpointReply(body={}), 0.5),
        # the cost of a request that timed out is unknown, up to the whole bound
        (9, EndpointReply(unsure=True), 0.5),
        (None, EndpointReply(unsure=True), 0.0),
        (9, EndpointReply(), 0.0),
        (9, EndpointReply(tokens=Tokens(10, 0)), 20e-6),
        # the plain request that shows that the endpoint answers others is paid as well
        (9, EndpointReply(probe_tokens=Tokens(10, 0)), 20e-6),
        (
            None,
            EndpointReply(body={}, tokens=Tokens(10, 49_998), counted=True, probe_tokens=Tokens(10, 9)),
            0.50011,
        ),
        # as far as the bound has room for it
        (9, EndpointReply(body={}, tokens=Tokens(10, 49_998), counted=True, probe_tokens=Tokens(10, 9)), 0.5),
        (
            9,
            EndpointReply(body={}, tokens=Tokens(10, 60_000), counted=True, probe_tokens=Tokens(10, 9)),
            0.60002,
        ),
    ],
)
def test_fleet_model_cost_of_an_answer(bound: int | None, reply: EndpointReply, cost: float):
    assert FleetModel("m", "m", lambda: Pricing(2.0, 10.0)).cost(work(bound=bound), reply) == pytest.approx(
        cost
    )


def test_fleet_model_without_prices_costs_the_reservation():
    llm, once = FleetModel("m", "m", lambda: None), Tokens(1, 1)
    for reply, cost in (
        (EndpointReply(body={}), 0.5),
        (EndpointReply(tokens=once), 0.5),
        (EndpointReply(probe_tokens=once), 0.0),
        (EndpointReply(), 0.0),
    ):
        assert llm.cost(work(), reply) == cost


def test_encode_spent_cost_above_the_maximum_keeps_the_reservation():
    assert encode_spent(work(bound=9, cost=3000.0), "m", 3000.0) is None
    value = encode_spent(work(cost=3000.0), "m", 3000.0)
    assert value is not None
    assert orjson.loads(value)["cost"] == 1000.0


def test_messages_long_numbers_keep_their_digits():
    big, long = b"123456789012345678901234567890", b"0.12345678901234567890"
    value = (
        b'{"id":"a","prompt":"?","parameters":{"seed":%b,"logit_bias":{"1":%b}},'
        b'"routing":{"partition":0,"offset":1,"cost":0.5}}' % (big, long)
    )
    query = decode_routed_query(value, [])
    response = b'{"choices":[{"message":{"content":null}}],"usage":{"cost":%b},"n":%b}' % (long, big)
    body = exact_json.decode(response)

    assert exact_json.encode(chat_request(query, "m")) == (
        b'{"seed":%b,"logit_bias":{"1":%b},"model":"m",' % (big, long)
        + b'"messages":[{"role":"user","content":"?"}]}'
    )
    value = encode_answer(query, "m", 0.5, answer_fields(query, EndpointReply(body=body)))
    assert b'"usage":{"cost":%b}' % long in value
    assert b'"n":%b' % big in value


@pytest.mark.parametrize(
    ("choice", "answer", "carried"),
    [
        ({"message": {"content": "4"}, "finish_reason": "stop"}, "4", False),
        ({"message": {"content": ""}, "finish_reason": "length"}, "", True),
        ({"message": {"content": None, "reasoning": "hm"}, "finish_reason": "length"}, None, True),
        ({"message": {"function_call": {"name": "f"}}, "finish_reason": "function_call"}, None, True),
        ({"message": None, "finish_reason": "content_filter"}, None, True),
        ({"finish_reason": "content_filter"}, None, True),
    ],
)
def test_answer_fields_without_text_include_the_response(
    choice: dict[str, Any], answer: str | None, carried: bool
):
    body = {"choices": [choice]}
    value = answer_fields(work(), EndpointReply(body=body))
    assert (value["answer"], value["finish_reason"]) == (answer, choice["finish_reason"])
    assert value.get("response") == (body if carried else None)


def test_pricing_bills_cached_tokens_discounts_and_fees():
    tokens = Tokens(prompt=1000, completion=100, cached=600)

    assert Pricing(2.0, 10.0).cost(tokens, 3) == pytest.approx(3e-3)
    assert Pricing(2.0, 10.0, cached_input_price=0.5).cost(tokens) == pytest.approx(2.1e-3)
    assert Pricing(2.0, 10.0, discount=0.5).cost(tokens) == pytest.approx(1.5e-3)
    assert Pricing(2.0, 10.0, request_fee=0.01, discount=0.5).cost(tokens, 2) == pytest.approx(21.5e-3)
