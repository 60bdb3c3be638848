"""Admission under `reserve=bound`: reject requests whose cost has no bound, and bound prompt tokens."""

from __future__ import annotations

from typing import Any

import orjson

from routing.budgets.cost_bound import TEMPLATE_TOKENS
from streams.messages import exact_json
from streams.messages.query import (
    RESERVED_PARAMETERS,
    Query,
)
from streams.messages.rejection import RejectedMessage, RejectionReason

BOUNDED_PARAMETERS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "stop",
        "store",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    }
)
"""Parameters of the chat completions API that leave an answer's cost within its text and `max_tokens`.

Missing are tools and functions (an endpoint adds text of its own), audio and searches (other prices),
`prediction` (unused parts are billed as an answer) and `service_tier` (other prices).
"""


MESSAGE_FIELDS = frozenset(
    {"content", "function_call", "name", "refusal", "role", "tool_call_id", "tool_calls"}
)


def max_prompt_tokens(query: Query) -> int:
    """Return an upper bound of the prompt tokens that any byte-level tokenizer makes of a query.

    The bound has one token per UTF-8 byte, and the tokens of a chat template per message. For `messages` and
    a response format it counts the bytes of their JSON, which contain all that a template can show.

    Parameters
    ----------
    query : Query
        Accepted by `validate_bounded`.
    """
    fields = query.fields
    if fields.get("messages") is not None or fields.get("parameters") is not None:
        fields = exact_json.decode(query.value)  # a fleet sends numbers with all digits
    messages = fields.get("messages")
    if isinstance(messages, list):
        size, count = len(exact_json.encode(messages)), max(1, len(messages))
    else:
        size, count = len(query.prompt.encode()), 1
    parameters = fields.get("parameters")
    if isinstance(parameters, dict) and (form := parameters.get("response_format")) is not None:
        # some templates show a schema, and indent it
        size += 2 * len(exact_json.encode(form, orjson.OPT_INDENT_2)) + TEMPLATE_TOKENS
    return size + count * TEMPLATE_TOKENS


def validate_bounded(query: Query) -> None:
    """Reject a query that could cost more than its text and `max_tokens` at list price.

    Raises
    ------
    RejectedMessage
        Stage "reserve": the query has a part other than text, tools, or a parameter that changes the cost of
        an answer; or its JSON is nested too deeply.
    """
    parameters = query.fields.get("parameters")
    if isinstance(parameters, dict):
        for name, value in parameters.items():
            if value is not None and name not in BOUNDED_PARAMETERS | RESERVED_PARAMETERS:
                raise _unbounded(f"parameters.{name}")
    messages = query.fields.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            _validate_message(message, f"messages[{number}]")
    try:
        max_prompt_tokens(query)
    except TypeError as error:  # decoding accepts deeper nesting than encoding
        raise RejectedMessage(
            RejectionReason.NESTED_TOO_DEEPLY, "messages, parameters", error=error
        ) from None


def _validate_message(message: dict[str, Any], field: str) -> None:
    for name in message.keys() - MESSAGE_FIELDS:
        if message[name] is not None:
            raise _unbounded(f"{field}.{name}")
    content = message.get("content")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or part.get("type", "text") not in ("text", "refusal"):
            raise _unbounded(f"{field}.content[{number}]")


def _unbounded(field: str) -> RejectedMessage:
    return RejectedMessage(RejectionReason.COST_UNBOUNDED, field)
