"""Requests as queries, and answers as events."""

import orjson
import pytest
from openai.types.chat import ChatCompletionChunk

from producers.gateway.api_errors import ApiError
from producers.gateway.chat import decode_body, read_chat_request, read_models, stream_events
from streams.messages.query import decode_query

MODELS = ["gpt-4", "gpt-4-mini", "claude"]
MESSAGES = [{"role": "user", "content": "Why?"}]


def test_request_becomes_a_query_that_the_router_accepts():
    body = {"model": "gpt-*", "messages": MESSAGES, "max_tokens": 5, "weight": 2, "seed": 1, "stream": True}
    chat = read_chat_request(body | {"metadata": {"team": "forged", "a": "b"}}, MODELS, {"team": "ads"})

    fields = decode_query(chat.encode("q", 1_700_000_000_000), None).fields
    assert fields["id"] == "q"
    assert fields["models"] == ["gpt-*"]
    assert fields["metadata"] == {"team": "ads", "a": "b"}
    assert (fields["weight"], fields["max_tokens"], fields["parameters"]) == (2, 5, {"seed": 1})
    assert fields["deadline"] == 1_700_000_000_000
    assert chat.stream
    assert not chat.include_usage


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": 1}]}, "messages[0]"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"n": 2}, "n"),
        ({"metadata": []}, "metadata"),
        ({"model": 7}, "model"),
        ({"model": []}, "model"),
    ],
)
def test_invalid_request_names_the_field(change: dict, param: str):
    with pytest.raises(ApiError) as caught:
        read_chat_request({"model": "auto", "messages": MESSAGES} | change, MODELS, {}).encode("q", 1)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.body["error"]["message"].startswith(param)


def test_prompt_that_is_too_long_is_rejected_before_it_is_sent():
    messages = [{"role": "user", "content": "x" * 2**21}]
    chat = read_chat_request({"messages": messages}, MODELS, {})
    with pytest.raises(ApiError, match="bytes"):
        chat.encode("q", 1)


def test_models_restrict_by_name_and_pattern():
    assert read_models("auto", MODELS) == []
    assert read_models(None, MODELS) == []
    assert read_models(["gpt-*", "!gpt-4"], MODELS) == ["gpt-*", "!gpt-4"]
    with pytest.raises(ApiError) as caught:
        read_models(["claude", "llama"], MODELS)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_body_that_is_no_object_is_rejected():
    for raw in (b"", b"[]", b"{", b"\xff"):
        with pytest.raises(ApiError, match="JSON"):
            decode_body(raw)


def test_events_are_chunks_of_openai_with_calls_of_tools_and_usage():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = {"id": "a", "created": 1, "model": "gpt-4", "choices": [choice], "usage": usage}

    events = [event.decode().removeprefix("data: ").strip() for event in stream_events(body, True)]
    chunks = [ChatCompletionChunk.model_validate(orjson.loads(event)) for event in events[:-1]]
    assert events[-1] == "[DONE]"
    assert chunks[0].choices[0].delta.tool_calls[0].function.name == "f"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:2]] == [None, "tool_calls"]
    assert chunks[2].usage.total_tokens == 3
    assert len(list(stream_events(body, False))) == 3
