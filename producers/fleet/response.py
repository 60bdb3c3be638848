"""Read responses of the chat completions API in the forms that different providers send."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producers.fleet.endpoint_errors import MAX_TEXT_CHARACTERS, EndpointError, read_error
from producers.fleet.failures import RequestFailure, refusal
from producers.fleet.messages import Tokens
from streams.messages import exact_json

FAILED_FINISH_REASONS = frozenset({"abort", "error", "insufficient_system_resource"})
"""Finish reasons of answers that broke off: OpenRouter and Mistral, vLLM and SGLang, DeepSeek."""

_LENIENT = re.compile(
    r'"(?:[^"\\]|\\.)*"|[-+]?(?:Infinity|inf|NaN|nan)\b|-?\d+(?:\.\d+)?[eE]\+?\d{3,}', re.DOTALL
)
"""A text, a number that JSON does not have, or one that may be beyond a float's range."""

_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.|[\x00-\x1f]",
    re.DOTALL,
)
"""Within a text: a surrogate pair, half of one, another escape, or a character that must be escaped."""

_USAGE = re.compile(r'"usage"\s*:\s*(?=\{)')


@dataclass(frozen=True)
class Answer:
    """A complete answer.

    Parameters
    ----------
    body : dict
        The whole response.
    tokens : Tokens or None
        Tokens to be paid for; None if the response does not report them.
    """

    body: dict[str, Any]
    tokens: Tokens | None


def read_answer(content: bytes, headers: Mapping[str, str], known: bool) -> Answer:
    """Read a response with status 200.

    Parameters
    ----------
    content : bytes
    headers : mapping
    known : bool
        Whether the LLM has answered before.

    Raises
    ------
    RequestFailure
        It is not a complete answer; the failure has the tokens if they were counted.
    EndpointAccessError
        It is an error that every query would get.
    """
    try:
        body = decode_response(content)
    except ValueError as error:
        raise _unreadable(content, error) from None
    choice = _first_choice(body)
    finish = choice.get("finish_reason") if choice is not None else None
    tokens = read_usage(body)
    if isinstance(finish, str) and finish:
        complete = finish.lower() not in FAILED_FINISH_REASONS
    else:
        # some servers name no reason; what was cut off on its way is not JSON, and has no usage
        complete = finish in (None, "") and tokens is not None and _has_content(choice)
    if choice is None or not complete or _is_error(choice.get("error")) or _is_error(body.get("error")):
        if (reported := _error(body, choice, finish, headers, content)) is not None:
            raise refusal(reported, known, tokens, unsure=tokens is None if choice is not None else None)
        problem = (
            "the response has no choices[0].message: " + read_error(200, {}, None, content).text
            if choice is None
            else "the response has no finish_reason, and no text with usage: the answer was cut off"
        )
        raise RequestFailure("half_answer", problem, tokens=tokens or Tokens(), unsure=tokens is None)
    try:
        exact_json.encode(body)
    except TypeError as error:  # decoding accepts deeper nesting than encoding
        problem = f"the response is nested too deeply ({error})"
        raise RequestFailure(
            "half_answer", problem, tokens=tokens or Tokens(), unsure=tokens is None, own=True
        ) from None
    return Answer(body, tokens)


def decode_response(content: bytes) -> Any:
    """Decode JSON leniently; numbers keep their digits.

    Unpaired surrogates and invalid UTF-8 become U+FFFD; NaN, infinities and numbers beyond a float's range
    become null. A byte order mark and zero bytes at the end are skipped.

    Raises
    ------
    ValueError
        It is not JSON even so.

    Examples
    --------
    >>> decode_response(b'{"text": "cut \\\\ud83d", "logprob": -Infinity}')
    {'text': 'cut \ufffd', 'logprob': None}
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return exact_json.decode(content)
    except ValueError:
        text = (
            content.decode(json.detect_encoding(content), "replace")
            .removeprefix("\ufeff")
            .rstrip(" \t\r\n\0")
        )
        return exact_json.decode(_LENIENT.sub(_repair, text))


def _repair(match: re.Match[str]) -> str:
    token = match[0]
    if token[0] == '"':
        return _ESCAPE.sub(_repair_escape, token)
    return token if token[-1].isdigit() and math.isfinite(float(token)) else "null"


def _repair_escape(match: re.Match[str]) -> str:
    escape = match[0]
    if len(escape) == 1:
        return f"\\u{ord(escape):04x}"
    return "\\ufffd" if len(escape) == 6 else escape


def read_usage(body: Any) -> Tokens | None:
    """Return the tokens to be paid for, or None if the response does not report them.

    Some providers count reasoning separately from the completion: only in the total, or as more reasoning
    tokens than completion tokens.

    Examples
    --------
    >>> read_usage({"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}})
    Tokens(prompt=10, completion=30, cached=0)
    """
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    if prompt is None and completion is not None and total is not None:
        prompt = max(0, total - completion)
    if prompt is None or (completion is None and total is None):
        return None
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    reasoning = _count(details, "reasoning_tokens") if isinstance(details, dict) else None
    reasoning = reasoning if reasoning is not None else _count(usage, "reasoning_tokens")
    generated = completion or 0
    if reasoning is not None and reasoning > generated:
        generated += reasoning
    return Tokens(prompt, max(generated, (total or 0) - prompt), min(_cached(usage), prompt))


def _cached(usage: Mapping[str, Any]) -> int:
    """Return the prompt's tokens that the provider read from its cache; DeepSeek has a name of its own."""
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    return cached or _count(usage, "prompt_cache_hit_tokens") or 0


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        count = usage.get(name)
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
            return int(count)
    return None


def _first_choice(body: Any) -> dict[str, Any] | None:
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        return None
    message = first.get("message")
    # a filtered answer may have no message at all
    return first if isinstance(message, dict) or (message is None and "finish_reason" in first) else None


def _error(
    body: Any, choice: dict[str, Any] | None, finish: object, headers: Mapping[str, str], content: bytes
) -> EndpointError | None:
    """Return the error in a response with status 200: of a choice, of the response, or the whole body."""
    if choice is not None and _is_error(choice.get("error")):
        return read_error(200, headers, {"error": choice["error"]}, content)
    inner = body[0] if isinstance(body, list) and body else body
    if isinstance(inner, dict) and (_is_error(inner.get("error")) or _is_error(inner.get("errors"))):
        return read_error(200, headers, inner, content)
    if choice is not None:
        if not isinstance(finish, str) or not finish:
            return None
        fields = {"code": f"finish_reason_{finish}", "status": 503, "message": "the answer broke off"}
        return read_error(200, headers, {"error": fields})
    texts = ("message", "msg", "detail")
    if isinstance(inner, dict) and any(isinstance(inner.get(name), str) for name in texts):
        return read_error(200, headers, inner, content)
    return None


def _has_content(choice: Mapping[str, Any] | None) -> bool:
    message = choice.get("message") if choice is not None else None
    return isinstance(message, dict) and bool(message.get("content") or message.get("tool_calls"))


def _is_error(value: object) -> bool:
    """Return whether an `error` has content; some endpoints always send an empty one."""
    return any(value.values()) if isinstance(value, dict) else bool(value)


def _unreadable(content: bytes, error: ValueError) -> RequestFailure:
    """Return the failure of a response that is not JSON; it is retried only if its usage is unknown."""
    text = content.decode("utf-8", "replace")
    tokens = None
    for match in _USAGE.finditer(text):
        try:
            usage, _ = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        tokens = read_usage({"usage": usage}) or tokens
    start = " ".join(text[: 2 * MAX_TEXT_CHARACTERS].split())[: MAX_TEXT_CHARACTERS // 2]
    problem = f"the response is not JSON ({error}): {start}"
    return RequestFailure(
        "half_answer", problem, retryable=tokens is None, tokens=tokens or Tokens(), unsure=tokens is None
    )
