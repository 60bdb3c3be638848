"""Schemas and decoders accept the same messages."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streams.config.topic_names import Topics
from streams.messages.json_schemas import SCHEMAS, message_schema
from streams.messages.outcome import decode_outcome
from streams.messages.query import decode_query
from streams.messages.rejection import RejectedMessage
from streams.messages.routing_info import RoutingInfo, RoutingInfoError
from tests.conftest import ROOT

EXAMPLES = settings(max_examples=200)

# Whole numbers with a fraction, such as 5.0, are integers in JSON Schema and none for the decoders.
numbers = st.one_of(
    st.integers(-2, 3),
    st.sampled_from([0.5, 1.5, -0.5, 1e3 + 0.5, 1e13 + 0.5, 999.5]),
    st.sampled_from(
        [1000, 1001, 10_000_000, 10_000_001, 253_402_300_799_999, 253_402_300_800_000, 2**63 - 1]
    ),
)
texts = st.sampled_from(
    ["", "a", "!", "!a", "!!", "gpt-*", "x" * 512, "x" * 513, "!" + "x" * 512, "!" + "x" * 513]
)
other = st.one_of(st.none(), st.booleans(), numbers, texts, st.just([]), st.just({}), st.just([1]))
times = st.sampled_from(
    [
        "2026-11-29T04:00:00Z",
        "2026-11-29t04:00:00.123456789+01:00",
        "2026-11-29 04:00:00-23:59",
        "2026-11-29T04:00:00",
        "2026-11-29T24:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-29",
        "29.11.2026",
    ]
)
parts = st.one_of(other, st.fixed_dictionaries({}, optional={"text": st.one_of(other, texts), "type": texts}))
contents = st.one_of(other, texts, st.lists(parts, max_size=2))
turns = st.one_of(
    other,
    st.fixed_dictionaries({}, optional={"role": st.one_of(other, st.just("user")), "content": contents}),
)
messages = st.one_of(other, st.lists(turns, max_size=3))
QUERY = {
    "id": st.one_of(st.just("a"), other),
    "prompt": st.one_of(st.just("Why?"), other),
    "messages": messages,
    "max_tokens": other,
    "metadata": other,
    "weight": other,
    "models": st.one_of(other, st.lists(st.one_of(texts, other), max_size=3), st.just(["a"] * 101)),
    "max_cost_usd": other,
    "min_quality": other,
    "deadline": st.one_of(other, times),
    "parameters": other,
    "unknown": other,
}
POSITION = st.one_of(other, st.just(7))
OUTCOME = {
    "id": st.one_of(st.just("a"), other),
    "model": st.one_of(st.just("gpt"), other),
    "cost": other,
    "quality": other,
    "partition": POSITION,
    "offset": POSITION,
    "attempt": other,
    "status": st.one_of(other, st.sampled_from(["ok", "failed", "expired", "OK"])),
}


@lru_cache
def validator(name: str) -> Draft202012Validator:
    schema = message_schema(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def decodes(decode: Callable[[bytes], object], fields: dict[str, Any]) -> str | None:
    """Return why the decoder rejects a message; None if it accepts it."""
    try:
        decode(orjson.dumps(fields))
    except RejectedMessage as error:
        return str(error)
    return None


def valid(fields: dict[str, Any], schema: Draft202012Validator, decode: Callable[[bytes], object]) -> bool:
    """Check that schema and decoder agree, and return their verdict."""
    problem = decodes(decode, fields)
    errors = [error.message for error in schema.iter_errors(fields)]
    assert (problem is None) == (not errors), (fields, problem, errors)
    return problem is None


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid(name: str):
    validator(name)


def test_page_lists_every_message_and_every_topic():
    page = (ROOT / "docs" / "schemas.md").read_text().partition("## CloudEvents")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \|", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(SCHEMAS)
    topics = {*vars(Topics()).values()} - {""} | {"llm.<slug>"}
    named = {topic for _, cell in rows for topic in re.findall("`([^`]+)`", cell)}
    without = set(re.findall(r"^\| `([\w.]+)` \| pieces", page, re.MULTILINE))
    assert without == {"gateway.files"}
    assert topics <= named | without
    for name, (description, _) in SCHEMAS.items():
        cell = dict(rows)[name]
        assert any(f"`{topic}`" in cell for topic in re.findall("`([^`]+)`", description)) or "llm" in cell


@EXAMPLES
@given(st.fixed_dictionaries({}, optional=QUERY))
def test_query_schema_agrees_with_the_decoder(fields: dict[str, Any]):
    valid(fields, validator("query"), lambda value: decode_query(value, None))


@EXAMPLES
@given(st.sampled_from(sorted(QUERY)), st.data())
def test_query_schema_agrees_with_the_decoder_on_each_field(name: str, data: st.DataObject):
    fields = {"id": "a", "messages": [{"role": "user", "content": "Why?"}], name: data.draw(QUERY[name])}
    valid(fields, validator("query"), lambda value: decode_query(value, None))


@EXAMPLES
@given(st.fixed_dictionaries({}, optional=OUTCOME))
def test_outcome_schema_agrees_with_the_decoder(fields: dict[str, Any]):
    valid(fields, validator("outcome"), decode_outcome)


@EXAMPLES
@given(st.sampled_from(sorted(OUTCOME)), st.data())
def test_outcome_schema_agrees_with_the_decoder_on_each_field(name: str, data: st.DataObject):
    good = {"id": "a", "model": "gpt", "cost": 0.5, "partition": 0, "offset": 7}
    assert valid(good, validator("outcome"), decode_outcome)
    valid({**good, name: data.draw(OUTCOME[name])}, validator("outcome"), decode_outcome)


@EXAMPLES
@given(
    st.fixed_dictionaries(
        {"partition": POSITION, "offset": POSITION}, optional={"max_tokens": other, "attempt": other}
    )
)
def test_routing_schema_agrees_with_the_decoder(routing: dict[str, Any]):
    schema = validator("unserved-query")
    fields = {"id": "a", "prompt": "Why?", "reason": "expired", "routing": routing}
    try:
        RoutingInfo.decode(fields)
        accepted = True
    except RoutingInfoError:
        accepted = False
    if routing.get("max_tokens", 1) is not None:  # the decoder takes null as missing
        assert schema.is_valid(fields) == accepted, routing


def test_what_the_router_writes_fits_the_schema():
    routing = RoutingInfo(
        plan=3,
        period=1,
        partition=0,
        routed_at=1.5,
        offset=7,
        source=(1, 2),
        model="gpt",
        quality=0.5,
        cost=0.1,
        price=2.0,
        max_tokens=5,
        reserve="p95",
        attempt=2,
        tried=("other",),
        exhausted=["total"],
        excluded={"gpt": "context"},
    )
    query = {"id": "a", "prompt": "Why?", "routing": orjson.loads(routing.encode())}
    assert validator("routed-query").is_valid(query)
    assert validator("unserved-query").is_valid({**query, "reason": "not_worth_it"})
    assert not validator("unserved-query").is_valid({**query, "reason": "other"})
