"""Chat completions API: a request's body as a query's fields, and an answer as a response's body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.messages.message_text import MessagesError, message_text
from streams.messages.query import MAX_TOKENS, RESERVED_PARAMETERS

TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")


class RequestFieldError(ValueError):
    """An invalid field of a request.

    Parameters
    ----------
    field : str
    reason : str
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def query_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return prompt, messages, max_tokens, session and parameters of the query for a request.

    Parameters
    ----------
    body : mapping
        A request of the chat completions API. Fields that are null count as missing, because OpenAI's
        library writes missing fields as null.

    Raises
    ------
    RequestFieldError
        The request has no valid messages, an invalid limit or session, or asks for more than one answer.
    """
    if body.get("n") not in (None, 1):
        raise RequestFieldError("n", f"{shown(body['n'])} must be 1: a query has one answer")
    messages = body.get("messages")
    try:
        query: dict[str, Any] = {"prompt": message_text(messages), "messages": messages}
    except MessagesError as error:
        raise RequestFieldError(error.place, error.reason) from None
    limits = []
    for name in TOKEN_LIMITS:
        limit = body.get(name)
        if limit is not None:
            if type(limit) is not int or not 0 < limit <= MAX_TOKENS:
                raise RequestFieldError(name, f"{shown(limit)} must be a whole number from 1 to {MAX_TOKENS}")
            limits.append(limit)
    if limits:
        query["max_tokens"] = min(limits)
    if (session := body.get("session")) is not None:
        if not isinstance(session, str) or not session:
            raise RequestFieldError("session", f"{shown(session)} must be a text that is not empty")
        query["session"] = session
    excluded = {"max_tokens", "session", *RESERVED_PARAMETERS}
    parameters = {key: value for key, value in body.items() if key not in excluded and value is not None}
    return query | ({"parameters": parameters} if parameters else {})


def response_body(answer: Mapping[str, Any], created: int) -> dict[str, Any]:
    """Return the chat completions response of an answer, or one built from its text.

    Parameters
    ----------
    answer : mapping
        Fields of the message.
    created : int
        Creation time in seconds since 1970, if the answer has none.
    """
    if isinstance(answer.get("response"), dict):
        return dict(answer["response"])
    message = {"role": "assistant", "content": answer.get("answer"), "refusal": None}
    reason = answer.get("finish_reason")
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": answer.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": answer.get("model"),
        "choices": [choice],
        "usage": answer.get("usage"),
    }


def shown(value: object) -> str:
    """Return a value of a field, shortened, for an error message."""
    if value is None:
        return "is missing or null;"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
