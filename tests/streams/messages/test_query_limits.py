"""Limits of a query: weight, LLMs, largest cost, smallest quality and deadline."""

import contextlib

import pytest
from hypothesis import given

from streams.messages.query import decode_query
from streams.messages.query_limits import NO_LIMITS, QueryLimits, similar_fields
from streams.messages.rejection import RejectedMessage
from tests.streams.messages.query_values import JSON_VALUES, encoded, rejection_of, slow_to_draw

NAMES = ("weight", "models", "max_cost_usd", "min_quality", "deadline")


def test_decode_query_without_limits_shares_the_default():
    assert decode_query(encoded(), None).limits is NO_LIMITS


def test_decode_query_null_limits_count_as_missing():
    assert decode_query(encoded(**dict.fromkeys(NAMES)), None).limits == NO_LIMITS


def test_decode_query_all_limits_are_read():
    value = encoded(
        weight=2,
        models=["gpt-*", "!gpt-4"],
        max_cost_usd=0.01,
        min_quality=0.5,
        deadline=1_800_000_000_000,
    )

    assert decode_query(value, None).limits == QueryLimits(
        2.0, ("gpt-*", "!gpt-4"), 0.01, 0.5, 1_800_000_000_000
    )


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01t00:00:00.5z", 1_767_225_600_500),
        ("2026-01-01 00:00:00.123456789+01:00", 1_767_222_000_123),
    ],
)
def test_decode_query_deadline_by_rfc_3339(text: str, milliseconds: int):
    assert decode_query(encoded(deadline=text), None).limits.deadline == milliseconds


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"weight": 0}, "weight", "0 must be a number above 0, at most 1000"),
        ({"weight": -1}, "weight", "-1 must be"),
        ({"weight": 1e9}, "weight", "1000000000.0 must be"),
        ({"weight": True}, "weight", "True must be"),
        ({"weight": "high"}, "weight", "'high' must be"),
        ({"models": "gpt-4"}, "models", "'gpt-4' must be a list of 1 to 100 names"),
        ({"models": []}, "models", "a list of 0 must be a list of 1 to 100 names"),
        ({"models": ["a"] * 101}, "models", "a list of 101 must be"),
        ({"models": ["a", 7]}, "models[1]", "7 must be the name or the pattern"),
        ({"models": ["!"]}, "models[0]", "'!' must be"),
        ({"models": ["x" * 513]}, "models[0]", "at most 512 characters"),
        ({"max_cost_usd": -1}, "max_cost_usd", "must be a number from 0"),
        ({"max_cost_usd": "1"}, "max_cost_usd", "must be a number from 0"),
        ({"min_quality": 1.1}, "min_quality", "must be a number from 0 to 1"),
        ({"deadline": "tomorrow"}, "deadline", "'tomorrow' must be a time by RFC 3339"),
        ({"deadline": "2026-01-01"}, "deadline", "must be a time"),
        ({"deadline": "2026-13-01T00:00:00Z"}, "deadline", "must be a time"),
        ({"deadline": 1.5}, "deadline", "1.5 must be a time"),
        ({"deadline": -1}, "deadline", "-1 must be a time"),
    ],
)
def test_decode_query_invalid_limit_names_field_and_fix(fields: dict, field: str, reason: str):
    error = rejection_of(encoded(**fields))

    assert (error.stage, error.field) == ("decode", field)
    assert reason in error.text


@slow_to_draw
@given(JSON_VALUES)
def test_decode_query_any_value_of_a_limit_is_accepted_or_rejected(value: object):
    for name in NAMES:
        with contextlib.suppress(RejectedMessage):
            assert isinstance(decode_query(encoded(**{name: value}), None).limits, QueryLimits)


def test_similar_fields_name_the_field_that_was_meant():
    fields = {"id": "a", "model": "gpt-4", "priority": 1, "maxCostUsd": 1, "Max-Tokens": 7, "team": "b"}

    assert similar_fields(fields) == [
        ("model", "models"),
        ("priority", "weight"),
        ("maxCostUsd", "max_cost_usd"),
        ("Max-Tokens", "max_tokens"),
    ]
    assert similar_fields({"id": "a", "prompt": "b", "models": ["c"], "metadata": {}, "weight": 2}) == []
