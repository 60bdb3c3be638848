"""With reserve=bound: what a request's prompt can come to, and what is refused because nothing bounds it."""

from typing import Any

import numpy as np
import orjson
import pytest

from routing.catalogue import Model
from routing.estimators.base import Estimates
from routing.reserve import TEMPLATE_TOKENS
from streams.bounding import admit_bounded, request_tokens
from streams.charging import charge_bounds
from streams.messages import Refused, decode_query


def query(**fields: Any):
    return decode_query(orjson.dumps({"id": "a", "prompt": "Why is it so?"} | fields), None)


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "messages": [
                user("Hi"),
                {"role": "assistant", "content": None},
                user([{"type": "text", "text": "x"}]),
            ]
        },
        {"parameters": {"temperature": 0, "stop": ["\n"], "tools": None, "stream": True}},
        {"parameters": {"response_format": {"type": "json_object"}}},
        {"parameters": "odd", "messages": "odd"},  # the fleet refuses them
    ],
)
def test_text_and_parameters_that_do_not_change_the_cost_are_taken(fields: dict[str, Any]):
    admit_bounded(query(**fields))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        (
            {"messages": [user("Look"), user([{"type": "text", "text": "x"}, IMAGE])]},
            "messages[1].content[1]",
        ),
        ({"messages": [user([{"type": "input_audio", "input_audio": {}}])]}, "messages[0].content[0]"),
        ({"parameters": {"tools": [{"type": "function"}]}}, "parameters.tools"),
        ({"parameters": {"service_tier": "priority"}}, "parameters.service_tier"),
        ({"parameters": {"prediction": {"type": "content"}}}, "parameters.prediction"),
    ],
)
def test_what_nothing_bounds_is_refused_with_its_place_and_the_fix(fields: dict[str, Any], where: str):
    with pytest.raises(Refused, match="reserve=estimate") as told:
        admit_bounded(query(**fields))
    assert told.value.stage == "reserve"
    assert told.value.field == where


@pytest.mark.parametrize("place", ['"messages":[%s]', '"parameters":{"response_format":%s}'])
def test_what_is_nested_too_deeply_is_refused_rather_than_ending_the_worker(place: str):
    nested = '{"role":"user","content":[{"type":"text","text":"Hi","more":%s}]}' % ("[" * 300 + "]" * 300)
    value = '{"id":"a","prompt":"Hi",%s}' % (place % nested)
    with pytest.raises(Refused, match="nest them less") as told:
        admit_bounded(decode_query(value.encode(), None))
    assert told.value.stage == "reserve"


def test_messages_count_rather_than_the_prompt_that_stands_for_them():
    alone = request_tokens(query(prompt="Hi"))
    assert alone == request_tokens(query(prompt="é")) == 2 + TEMPLATE_TOKENS
    long = [user("x" * 5000)] * 10
    with_messages = request_tokens(query(prompt="Hi", messages=long))
    assert with_messages >= 50_000 + 10 * TEMPLATE_TOKENS
    # every character of a schema may be shown, and more where it is indented
    schema = {"type": "json_schema", "json_schema": {"name": "n" * 100}}
    shown = request_tokens(query(prompt="Hi", parameters={"response_format": schema})) - alone
    assert shown > len(orjson.dumps(schema, option=orjson.OPT_INDENT_2))


def test_the_charge_is_of_all_that_is_asked():
    model = Model("m", input_price=1.0, output_price=2.0)
    charge = charge_bounds(lambda: {"m": model}, 100)
    asked = [query(prompt="Hi"), query(prompt="Hi", messages=[user("x" * 1000)], max_tokens=7)]
    charged = charge(asked, Estimates(np.zeros((2, 1)), np.zeros((2, 1))), ("m",))
    assert charged.answer_tokens == [100, 7]
    charges = charged.pico[:, 0]
    # 1 USD a million tokens is 1e6 picodollars a token
    assert charges[0] == (request_tokens(asked[0]) * 1 + 100 * 2) * 10**6
    assert charges[1] == (request_tokens(asked[1]) * 1 + 7 * 2) * 10**6
