"""Responses API: a request as one of the chat completions API, and an answer as a response object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.chat_api import shown
from producers.gateway.api_errors import ApiError, invalid_field
from producers.gateway.results import Completion

PASSED = (
    "model",
    "metadata",
    "temperature",
    "top_p",
    "top_logprobs",
    "parallel_tool_calls",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "weight",
    "max_cost_usd",
    "min_quality",
)
"""Fields that both APIs have, with the same meaning."""

IGNORED = ("background", "stream", "store", "truncation", "include", "service_tier", "stream_options")
"""Fields without effect here."""

CONVERTED = ("input", "instructions", "max_output_tokens", "text", "reasoning", "tools", "tool_choice")

ECHOED = ("max_output_tokens", "metadata", "temperature", "top_p", "tool_choice")
"""Fields of a request that its response object repeats; not those that can be large, such as tools."""

PART_TYPES = frozenset({"input_text", "output_text", "text"})


def chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request of the Responses API as the body of a chat completions request.

    Raises
    ------
    ApiError
        Status 400: a field is invalid, or needs state that the gateway does not keep.
    """
    known = {*PASSED, *IGNORED, *CONVERTED}
    for name, value in body.items():
        if value is not None and name not in known:
            raise invalid_field(name, "is not supported; leave it out")
    if body.get("stream"):
        raise invalid_field("stream", "is not supported here; use POST /v1/chat/completions")
    chat = {name: body[name] for name in PASSED if body.get(name) is not None}
    chat["messages"] = _messages(body.get("input"), body.get("instructions"))
    if (limit := body.get("max_output_tokens")) is not None:
        chat["max_completion_tokens"] = limit
    if isinstance(reasoning := body.get("reasoning"), dict) and reasoning.get("effort"):
        chat["reasoning_effort"] = reasoning["effort"]
    if isinstance(text := body.get("text"), dict):
        _add_format(chat, text)
    if body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{n}]") for n, tool in enumerate(body["tools"])]
    if isinstance(choice := body.get("tool_choice"), dict):
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice is not None:
        chat["tool_choice"] = choice
    return chat


def _messages(input_field: object, instructions: object) -> list[dict[str, Any]]:
    if instructions is not None and not isinstance(instructions, str):
        raise invalid_field("instructions", f"{shown(instructions)} must be a text")
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(input_field, str) and input_field:
        return [*messages, {"role": "user", "content": input_field}]
    if not isinstance(input_field, list) or not input_field:
        raise invalid_field("input", f"{shown(input_field)} must be a text or a list that is not empty")
    for number, item in enumerate(input_field):
        messages.append(_message(item, f"input[{number}]"))
    return messages


def _message(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise invalid_field(where, f"{shown(item)} must be an object")
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    if kind != "message":
        raise invalid_field(
            f"{where}.type", f"{shown(kind)} is not supported; send messages and function calls"
        )
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part, f"{where}.content[{n}]") for n, part in enumerate(content)]
    return {"role": item.get("role"), "content": content}


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in PART_TYPES:
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    raise invalid_field(
        where, f"{shown(kind)} is not supported; send input_text, or input_image with image_url"
    )


def _add_format(chat: dict[str, Any], text: Mapping[str, Any]) -> None:
    if text.get("verbosity"):
        chat["verbosity"] = text["verbosity"]
    form = text.get("format")
    if not isinstance(form, dict) or form.get("type") in (None, "text"):
        return
    if form["type"] == "json_schema":
        schema = {key: value for key, value in form.items() if key != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    else:
        chat["response_format"] = dict(form)


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise invalid_field(
            where, "must be a function; other tools need state that the gateway does not keep"
        )
    function = {key: value for key, value in tool.items() if key != "type" and value is not None}
    return {"type": "function", "function": function}


def response_object(
    identity: str, request: Mapping[str, Any], created: float, result: Completion | ApiError | None
) -> dict[str, Any]:
    """Return the response object of a query.

    Parameters
    ----------
    identity : str
    request : mapping
        Fields of the request to repeat, and its `background`.
    created : float
        Seconds since 1970.
    result : Completion, ApiError or None
        None while the query has no result.
    """
    response: dict[str, Any] = {
        "id": identity,
        "object": "response",
        "created_at": int(created),
        "status": "in_progress",
        "background": bool(request.get("background")),
        "error": None,
        "incomplete_details": None,
        "model": _shown_model(request.get("model")),
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        **{name: request[name] for name in ECHOED if request.get(name) is not None},
    }
    if isinstance(result, ApiError):
        code = "rate_limit_exceeded" if result.status in (402, 429) else "server_error"
        code = "invalid_prompt" if result.status == 400 else code
        return response | {"status": "failed", "error": {"code": code, "message": result.message}}
    if result is not None:
        response |= _answered(identity, result)
    return response


def _shown_model(model: object) -> str:
    return ",".join(map(str, model)) if isinstance(model, list) else str(model or "auto")


def _answered(identity: str, answer: Completion) -> dict[str, Any]:
    suffix = identity.removeprefix("resp_")
    choices = answer.body.get("choices") or [{}]
    message = choices[0].get("message") or {}
    output: list[dict[str, Any]] = []
    if (text := message.get("content")) is not None or message.get("refusal"):
        refusal = {"type": "refusal", "refusal": message.get("refusal")}
        part = refusal if text is None else {"type": "output_text", "text": text, "annotations": []}
        output.append(
            {
                "id": f"msg_{suffix}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        output.append(
            {
                "id": f"fc_{suffix}_{number}",
                "type": "function_call",
                "status": "completed",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    cut = choices[0].get("finish_reason") == "length"
    return {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": answer.model,
        "output": output,
        "usage": _usage(answer.body.get("usage")),
    }


def _usage(usage: object) -> dict[str, Any] | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage.get("total_tokens") or prompt + completion,
    }
