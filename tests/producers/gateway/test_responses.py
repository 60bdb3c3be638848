"""Requests and objects of the Responses API."""

import pytest
from openai.types.responses import Response

from producers.gateway.api_errors import ApiError
from producers.gateway.responses import chat_body, response_object
from producers.gateway.results import Completion


def test_request_becomes_one_of_chat_completions():
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    body = {
        "model": "auto",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "rain"},
        ],
        "max_output_tokens": 20,
        "reasoning": {"effort": "low"},
        "text": {"format": schema},
        "tools": [{"type": "function", "name": "f", "parameters": {}, "description": None}],
        "tool_choice": {"type": "function", "name": "f"},
        "background": True,
    }
    chat = chat_body(body)

    function = {"name": "f", "arguments": "{}"}
    assert chat["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ]
    assert chat["max_completion_tokens"] == 20
    assert chat["reasoning_effort"] == "low"
    inner = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert chat["response_format"] == {"type": "json_schema", "json_schema": inner}
    assert chat["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"type": "item_reference"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "x", "stream": True}, "stream"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": "x", "instructions": 7}, "instructions"),
    ],
)
def test_request_that_needs_state_or_has_another_form_is_rejected(body: dict, param: str):
    with pytest.raises(ApiError) as caught:
        chat_body(body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_object_of_an_answer_is_one_of_openai():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Yes.", "tool_calls": [call]}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    answer = Completion("gpt-4", 0.1, {"choices": [{"message": message}], "usage": usage})

    read = Response.model_validate(response_object("resp_1", {"background": True}, 5.0, answer))
    assert (read.status, read.output_text, read.model) == ("completed", "Yes.", "gpt-4")
    assert read.output[1].name == "f"
    assert read.usage.total_tokens == 7
    waiting = Response.model_validate(response_object("resp_1", {}, 5.0, None))
    assert waiting.status == "in_progress"
    failed = Response.model_validate(response_object("resp_1", {}, 5.0, ApiError(402, "no budget")))
    assert (failed.status, failed.error.code) == ("failed", "rate_limit_exceeded")
    cut = Completion("m", None, {"choices": [{"message": {"content": "Y"}, "finish_reason": "length"}]})
    assert response_object("resp_1", {}, 5.0, cut)["status"] == "incomplete"
