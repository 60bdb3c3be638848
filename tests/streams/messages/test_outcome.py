"""Outcomes: round trips and rejected values."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.messages.outcome import Outcome, decode_outcome, encode_outcome
from streams.messages.rejection import RejectedMessage
from tests.streams.messages.query_values import JSON_VALUES, slow_to_draw


def test_decode_outcome_encoded_outcome_is_equal():
    outcome = Outcome("a", "gpt-4", 0.0125, 0.75, 3, 2**40)

    assert decode_outcome(encode_outcome(outcome)) == outcome


def test_decode_outcome_quality_may_be_missing():
    outcome = Outcome("a", "gpt-4", 0.0, None, 0, 0)

    assert decode_outcome(encode_outcome(outcome)) == outcome


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"model": ""}, "model"),
        ({"cost": None}, "cost"),
        ({"cost": -1e-9}, "cost"),
        ({"cost": "1"}, "cost"),
        ({"cost": True}, "cost"),
        ({"cost": 1e7}, "cost"),
        ({"quality": 1.01}, "quality"),
        ({"quality": -0.1}, "quality"),
        ({"partition": None}, "partition"),
        ({"partition": -1}, "partition"),
        ({"partition": 1.0}, "partition"),
        ({"offset": True}, "offset"),
        ({"offset": 2**63}, "offset"),
    ],
)
def test_decode_outcome_invalid_field_is_rejected(change: dict[str, object], field: str):
    fields = {"id": "a", "model": "m", "cost": 0.1, "partition": 0, "offset": 0} | change

    with pytest.raises(RejectedMessage) as caught:
        decode_outcome(json.dumps(fields).encode())

    assert (caught.value.stage, caught.value.field) == ("decode", field)


@slow_to_draw
@given(
    st.dictionaries(st.sampled_from(["id", "model", "cost", "quality", "partition", "offset"]), JSON_VALUES)
)
def test_decode_outcome_any_json_is_accepted_or_rejected(fields: dict[str, object]):
    try:
        outcome = decode_outcome(orjson.dumps(fields))
    except RejectedMessage:
        return
    assert decode_outcome(encode_outcome(outcome)) == outcome
