"""Admission under `reserve=bound`: bounds of prompt tokens, and rejection of unbounded requests."""

from typing import Any

import numpy as np
import orjson
import pytest

from routing.budgets.cost_bound import TEMPLATE_TOKENS
from routing.budgets.money import MAX_USD, to_pico
from routing.estimators.base import Estimates
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.plan import Plan
from streams.messages.query import (
    decode_query,
)
from streams.messages.rejection import (
    RejectedMessage,
)
from streams.router.admission import max_prompt_tokens, validate_bounded
from streams.router.charges import charge_bounds


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
        {"prompt": None, "messages": [user("Hi") | {"name": None, "audio": None, "tool_calls": None}]},
        {"parameters": "odd", "messages": "odd"},  # the fleet refuses them
    ],
)
def test_validate_bounded_text_and_harmless_parameters_accepts_them(fields: dict[str, Any]):
    validate_bounded(query(**fields))


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
def test_validate_bounded_unbounded_part_is_rejected_with_place_and_fix(fields: dict[str, Any], where: str):
    with pytest.raises(RejectedMessage, match="reserve=estimate") as rejection:
        validate_bounded(query(**fields))
    assert rejection.value.stage == "reserve"
    assert rejection.value.field == where


def test_max_prompt_tokens_of_messages_bounds_them():
    messages = [user("Why is it so?"), {"role": "assistant", "content": "é" * 99}]

    own, with_prompt = (query(messages=messages, prompt=prompt) for prompt in (None, "Why?"))

    assert own.prompt == "Why is it so?\n\n" + "é" * 99
    assert max_prompt_tokens(own) == max_prompt_tokens(with_prompt) >= len(orjson.dumps(messages))


def test_max_prompt_tokens_counts_all_digits_of_numbers():
    digits = "0." + "1" * 400
    value = '{"id":"a","messages":[{"role":"user","content":[{"text":"x","n":7}]}]}'.replace("7", digits)
    form = '{"id":"a","prompt":"x","parameters":{"response_format":{"maximum":7}}}'.replace("7", digits)

    assert max_prompt_tokens(decode_query(value.encode(), None)) > 400
    assert max_prompt_tokens(decode_query(form.encode(), None)) > 800


@pytest.mark.parametrize("place", ['"messages":[%s]', '"parameters":{"response_format":%s}'])
def test_validate_bounded_deeply_nested_query_is_rejected(place: str):
    nested = '{"role":"user","content":[{"type":"text","text":"Hi","more":%s}]}' % ("[" * 300 + "]" * 300)
    value = '{"id":"a","prompt":"Hi",%s}' % (place % nested)
    with pytest.raises(RejectedMessage, match="nest them less") as rejection:
        validate_bounded(decode_query(value.encode(), None))
    assert rejection.value.stage == "reserve"


def test_max_prompt_tokens_with_messages_ignores_prompt():
    alone = max_prompt_tokens(query(prompt="Hi"))
    assert alone == max_prompt_tokens(query(prompt="é")) == 2 + TEMPLATE_TOKENS
    long = [user("x" * 5000)] * 10
    with_messages = max_prompt_tokens(query(prompt="Hi", messages=long))
    assert with_messages >= 50_000 + 10 * TEMPLATE_TOKENS
    # a template may show every character of a schema, indented
    schema = {"type": "json_schema", "json_schema": {"name": "n" * 100}}
    shown = max_prompt_tokens(query(prompt="Hi", parameters={"response_format": schema})) - alone
    assert shown > len(orjson.dumps(schema, option=orjson.OPT_INDENT_2))


def plan_of(*names: str) -> Plan:
    return Planner(PlanningSettings(100), names, np.ones(len(names))).start_period()


def test_charge_bounds_includes_all_of_the_request():
    charge = charge_bounds(lambda plan: {"m": (1.0, 2.0)}, 100)
    queries = [query(prompt="Hi"), query(prompt="Hi", messages=[user("x" * 1000)], max_tokens=7)]
    charged = charge(queries, Estimates(np.zeros((2, 1)), np.zeros((2, 1))), plan_of("m"))
    assert charged.answer_tokens == [100, 7]
    charges = charged.pico[:, 0]
    # 1 USD per million tokens is 1e6 picodollars per token
    assert charges[0] == (max_prompt_tokens(queries[0]) * 1 + 100 * 2) * 10**6
    assert charges[1] == (max_prompt_tokens(queries[1]) * 1 + 7 * 2) * 10**6


def test_charge_bounds_of_removed_llm_exceeds_any_grant():
    """A plan keeps a removed LLM until the period ends, and a worker may have started since."""
    charge = charge_bounds(lambda plan: {"m": (1.0, 2.0), "half": (1.0, None)}, 100)
    estimates = Estimates(np.zeros((1, 3)), np.zeros((1, 3)))
    charged = charge([query(prompt="Hi")], estimates, plan_of("m", "gone", "half"))
    most = int(to_pico(MAX_USD))
    assert charged.pico[0, 0] < 10**12
    assert charged.pico[0, 1] > 800 * 10**12, "more than 800 USD for one query"
    assert charged.pico[0, 2] > 800 * 10**12
    assert charged.pico.max() <= most
