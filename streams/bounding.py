"""For reserve=bound: what a request's prompt can come to in tokens, and what in a request nothing bounds."""

from __future__ import annotations

from typing import Any

import orjson

from routing.reserve import TEMPLATE_TOKENS
from streams.messages import Query, Refused

BOUNDED_PARAMETERS = frozenset(
    {
        "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata",
        "presence_penalty", "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier",
        "seed", "stop", "store", "temperature", "top_logprobs", "top_p", "user", "verbosity",
    }
)  # fmt: skip
"""Parameters of the chat completions API that leave an answer's cost within its text and `max_tokens`.

Not among them: tools and functions (an endpoint adds a text of its own), audio and searches (they have other
prices), `prediction` (what is not used of it is billed as an answer), `service_tier` (other prices, too).
"""

IGNORED_PARAMETERS = frozenset({"model", "messages", "stream", "stream_options", "n"})
"""A fleet does not pass them on."""

MESSAGE_FIELDS = frozenset(
    {"content", "function_call", "name", "refusal", "role", "tool_call_id", "tool_calls"}
)


def request_tokens(query: Query) -> int:
    """More prompt tokens than any byte-level tokenizer makes of what a fleet asks for this query.

    One for each UTF-8 byte, and a chat template's for each message. Of `messages` and of a format that is
    asked for, the bytes of their JSON, which has all that a template can show.

    Parameters
    ----------
    query : Query
        One that `admit_bounded` lets through.
    """
    messages = query.fields.get("messages")
    if isinstance(messages, list):
        size, count = len(orjson.dumps(messages)), max(1, len(messages))
    else:
        size, count = len(query.prompt.encode()), 1
    parameters = query.fields.get("parameters")
    if isinstance(parameters, dict) and (form := parameters.get("response_format")) is not None:
        # some templates show a schema, and indent it
        size += 2 * len(orjson.dumps(form, option=orjson.OPT_INDENT_2)) + TEMPLATE_TOKENS
    return size + count * TEMPLATE_TOKENS


def admit_bounded(query: Query) -> None:
    """Refuse what could cost more than its text and `max_tokens` at list price.

    Raises
    ------
    Refused
        Stage "reserve": an image or another part that is no text, tools, or a parameter that changes what an
        answer costs; or what is nested too deeply to be counted.
    """
    parameters = query.fields.get("parameters")
    if isinstance(parameters, dict):
        for name, given in parameters.items():
            if given is not None and name not in BOUNDED_PARAMETERS | IGNORED_PARAMETERS:
                raise _unbounded(f"parameters.{name}")
    messages = query.fields.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            _look_at(message, f"messages[{number}]")
    try:
        request_tokens(query)
    except TypeError as error:  # what can be read is deeper than what can be written
        reason = f"cannot be written as JSON ({error}), so nothing bounds what they cost; nest them less"
        raise Refused("reserve", "messages, parameters", reason) from None


def _look_at(message: dict[str, Any], where: str) -> None:
    for name in message.keys() - MESSAGE_FIELDS:
        raise _unbounded(f"{where}.{name}")
    content = message.get("content")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or part.get("type", "text") not in ("text", "refusal"):
            raise _unbounded(f"{where}.content[{number}]")


def _unbounded(where: str) -> Refused:
    return Refused(
        "reserve",
        where,
        "what it adds to the cost is not bounded, and this router reserves bounds; "
        "leave it out, or send it to a router with reserve=estimate",
    )
