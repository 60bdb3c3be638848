"""Schemas of plans and bills accept what the router writes, and need the fields that decoders need."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from streams.ledger.period_summary import CounterTotal, PeriodSummary, decode_period, encode_period
from streams.messages.json_schemas import message_schema
from streams.messages.plan import decode_plan, encode_plan
from tests.streams.messages.test_plan import plans

BILL = PeriodSummary(
    period=3,
    closed=False,
    settling=True,
    models=("a", "b"),
    budgets=[5, 6],
    reserved=[3, 0],
    settled=[2, 0],
    charged=[3, 0],
    served=[1, 0],
    settlements=[1, 0],
    lapsed=[0, 0],
    arrived=2,
    unserved=1,
    deferred=0,
    dead=0,
    failed=[0, 0],
    counters=[
        CounterTotal("team", "search", "usd", 3, {"a": [1, 3, 2]}, 9),
        CounterTotal("day", None, "queries", 1, {}),
    ],
)


def validator(name: str) -> Draft202012Validator:
    schema = message_schema(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def assert_needs_the_same_fields(
    name: str, value: bytes, decode: Callable[[bytes], object], derived: set[str]
) -> None:
    """Assert that schema and decoder agree on the message without each of its fields.

    `derived` fields are missing in older messages, or in those of another kind of budgets.
    """
    schema, fields = validator(name), orjson.loads(value)
    assert set(fields) | derived >= set(schema.schema["properties"])
    for left_out in fields:
        rest = {key: field for key, field in fields.items() if key != left_out}
        try:
            decode(orjson.dumps(rest))
            decoded = True
        except (KeyError, TypeError, ValueError):
            decoded = False
        assert schema.is_valid(rest) == decoded, left_out


@pytest.mark.parametrize("changed", [{}, {"budgets": None}])
def test_period_schema_agrees_with_the_decoder(changed: dict[str, Any]) -> None:
    value = orjson.dumps(orjson.loads(encode_period(BILL)) | changed)
    schema = validator("period")
    schema.validate(orjson.loads(value))
    assert_needs_the_same_fields("period", value, decode_period, set())
    assert not schema.is_valid(orjson.loads(value) | {"charged": [0.5, 1]})


@given(plans())
@settings(max_examples=30)
def test_plan_schema_accepts_every_plan(plan: Any) -> None:
    validator("plan").validate(orjson.loads(encode_plan(plan)))


@given(plans())
@settings(max_examples=3)
def test_plan_schema_needs_the_decoders_fields(plan: Any) -> None:
    assert_needs_the_same_fields("plan", encode_plan(plan), decode_plan, {"counters", "open"})
