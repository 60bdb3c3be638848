"""Schemas of headers accept what the router and fleets add, and no headers that decoders refuse."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.estimators.base import Estimates
from streams.messages.dead_letter import (
    ERROR_HEADER,
    ERROR_HEADERS,
    dead_letter_headers,
    split_dead_letter_headers,
)
from streams.messages.deferred import Deferral, overflow_headers
from streams.messages.headers import Headers
from streams.messages.outcome import MAX_OUTCOME_USD
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.returned import RETURN_HEADERS, decode_returned, return_headers
from streams.messages.routing_info import Attempt
from tests.streams.messages.schema_strategies import (
    OTHER,
    assert_accepted,
    assert_agree,
    assert_fits,
    assert_need_the_same_fields,
    documents,
    validator,
)

EXAMPLES = settings(max_examples=100, deadline=None)
ROUTED = b'{"id":"a","routing":{"model":"gpt-4","partition":0,"offset":7,"attempt":1}}'
counts = st.integers(0, 2**63 - 1)


def as_object(headers: Headers) -> dict[str, Any]:
    """Return headers as the schemas describe them: an object of texts."""
    return {name: (value or b"").decode() for name, value in headers}


def as_headers(value: bytes) -> Headers:
    return [(name, text.encode()) for name, text in orjson.loads(value).items()]


# ---- dead letters ------------------------------------------------------------------------------------------


def decode_errors(value: bytes) -> dict[str, str]:
    added = dict(as_headers(value))
    ordered = [(name, added[name]) for name in map(ERROR_HEADER.__add__, ERROR_HEADERS) if name in added]
    own, errors = split_dead_letter_headers([("trace", b"t"), *ordered])
    if not errors:
        raise ValueError("not the headers of a dead letter")
    assert own == [("trace", b"t")]
    return errors


@given(st.sampled_from(RejectionReason), st.text(max_size=9), counts, counts)
def test_dead_letter_schema_accepts_every_rejection(
    reason: RejectionReason, topic: str, partition: int, offset: int
):
    placeholders = [part.partition("}")[0] for part in reason.text.split("{")[1:]]
    rejected = RejectedMessage(reason, "id", **dict.fromkeys(placeholders, "x"))
    fields = as_object(dead_letter_headers([], rejected, topic, partition, offset, 1_700_000_000_000))
    assert_fits("dead-letter-headers", orjson.dumps(fields))
    assert_need_the_same_fields("dead-letter-headers", fields, decode_errors)


@EXAMPLES
@given(documents("dead-letter-headers"))
def test_dead_letter_headers_of_the_schema_are_decoded(fields: dict[str, Any]):
    assert_accepted("dead-letter-headers", fields, decode_errors)
    assert set(decode_errors(orjson.dumps(fields))) == set(ERROR_HEADERS)


# ---- returned queries --------------------------------------------------------------------------------------


def decode_return(value: bytes) -> object:
    return decode_returned(ROUTED, as_headers(value))


@given(st.text(min_size=1, max_size=600).filter(str.strip), st.floats(0, MAX_OUTCOME_USD), counts)
def test_returned_query_schema_accepts_every_return(reason: str, cost: float, requests: int):
    fields = as_object(return_headers(reason.strip(), cost, requests))
    assert tuple(fields) == RETURN_HEADERS
    assert_fits("returned-query-headers", orjson.dumps(fields))
    assert_need_the_same_fields("returned-query-headers", fields, decode_return)


@EXAMPLES
@given(documents("returned-query-headers"), st.floats(0, MAX_OUTCOME_USD))
def test_returned_query_headers_of_the_schema_are_decoded(fields: dict[str, Any], cost: float):
    assert_accepted("returned-query-headers", fields | {"__router.return.cost": repr(cost)}, decode_return)


@pytest.mark.parametrize("cost", ["", "-1", "nan", "inf", "x"])
def test_cost_that_is_no_amount_is_refused_by_both(cost: str):
    fields = as_object(return_headers("timeout", 0.5)) | {"__router.return.cost": cost}
    assert not validator("returned-query-headers").is_valid(fields)
    with pytest.raises(RejectedMessage):
        decode_return(orjson.dumps(fields))


# ---- deferred queries --------------------------------------------------------------------------------------


@st.composite
def deferred(draw: st.DrawFn) -> bytes:
    size = draw(st.integers(1, 4))
    floats = st.lists(st.floats(0, 1e6), min_size=size, max_size=size)
    charge = draw(st.lists(counts, min_size=size, max_size=size))
    cluster = draw(st.none() | st.integers(-1, 2**15 - 1))
    estimates = Estimates(
        np.array([draw(floats)]),
        np.array([draw(floats)]),
        None if cluster is None else np.array([cluster]),
    )
    source: Any = SimpleNamespace(offset=draw(counts), timestamp=draw(st.integers(-1, 2**53)))
    attempt = Attempt(draw(st.integers(1, 1000)), tuple(draw(st.lists(st.text(max_size=5), max_size=2))))
    tokens = draw(st.none() | st.integers(1, 10**9))
    lane = draw(st.integers(0, 10**6))
    ((_, value),) = overflow_headers(
        lane, source, estimates, np.array([charge], dtype=np.int64), 0, tokens, attempt
    )
    assert value is not None
    return value


GOOD = {"partition": 2, "offset": 7, "timestamp": 5, "quality": "AAAAAAAA4D8=", "cost": "AAAAAAAA4D8="}
GOOD |= {"charge": "AQAAAAAAAAA="}


@EXAMPLES
@given(deferred())
def test_deferred_query_schema_accepts_every_deferral_and_needs_the_decoders_fields(value: bytes):
    assert_fits("deferred-query-header", value)
    assert_need_the_same_fields("deferred-query-header", orjson.loads(value), Deferral.decode)


@EXAMPLES
@given(
    documents(
        "deferred-query-header",
        **{name: st.just(GOOD[name]) for name in ("quality", "cost", "charge")},
    )
)
def test_deferred_query_headers_of_the_schema_are_decoded(fields: dict[str, Any]):
    assert_accepted("deferred-query-header", fields, Deferral.decode)


@EXAMPLES
@given(
    st.sampled_from(["partition", "offset", "timestamp", "max_tokens", "cluster", "attempt", "tried"]), OTHER
)
def test_deferred_query_schema_agrees_with_the_decoder_on_each_field(name: str, value: Any):
    assert_agree("deferred-query-header", GOOD | {name: value}, Deferral.decode)
