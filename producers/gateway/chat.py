"""Chat completions: a request as a query's message, and an answer as a response, whole or streamed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import orjson

from producers.chat_api import RequestFieldError, query_fields, shown
from producers.gateway.api_errors import ApiError, invalid_field
from streams.messages import exact_json
from streams.messages.query import decode_query
from streams.messages.rejection import RejectedMessage

AUTO = "auto"
"""Name of the LLM with which a request lets the router choose among all."""

QUERY_FIELDS = ("weight", "max_cost_usd", "min_quality")
"""Fields of a query that a request may have beside those of the chat completions API."""


@dataclass(frozen=True)
class ChatRequest:
    """A valid request.

    Parameters
    ----------
    fields : dict
        Fields of the query, without id and deadline.
    stream : bool
        Whether the response is a stream of events.
    include_usage : bool
        Whether the stream ends with the usage.
    """

    fields: dict[str, Any]
    stream: bool
    include_usage: bool

    def encode(self, identity: str, deadline_ms: int) -> bytes:
        """Return the query's message, validated as the router does.

        Parameters
        ----------
        identity : str
        deadline_ms : int
            Milliseconds since 1970.

        Raises
        ------
        ApiError
            Status 400: the router would reject the query.
        """
        try:
            value = exact_json.encode({"id": identity, **self.fields, "deadline": deadline_ms})
        except TypeError as error:  # decoding accepts deeper nesting than encoding
            raise invalid_field("body", f"cannot be encoded as JSON ({error}); reduce its nesting") from None
        try:
            decode_query(value, None)
        except RejectedMessage as rejected:
            raise invalid_field(rejected.field, rejected.text) from None
        return value


def read_chat_request(
    body: Mapping[str, Any], models: Collection[str], own_metadata: Mapping[str, str]
) -> ChatRequest:
    """Return a request's body as a query.

    Parameters
    ----------
    body : mapping
    models : collection of str
        Names of the LLMs in the catalogue in force.
    own_metadata : mapping
        Metadata that the caller's key determines. It overrides the request's.

    Raises
    ------
    ApiError
        Status 400, or 404 for an LLM that is not in the catalogue.
    """
    body = dict(body)
    restriction = read_models(body.pop("model", None), models)
    metadata = body.pop("metadata", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise invalid_field("metadata", f"{shown(metadata)} must be an object")
    limits = {name: body.pop(name) for name in QUERY_FIELDS if name in body}
    options = body.get("stream_options")
    try:
        fields = query_fields(body)
    except RequestFieldError as error:
        raise invalid_field(error.field, error.reason) from None
    # the router reads the text out of the messages
    del fields["prompt"]
    fields |= {name: value for name, value in limits.items() if value is not None}
    if restriction:
        fields["models"] = restriction
    if metadata or own_metadata:
        fields["metadata"] = {**(metadata or {}), **own_metadata}
    include_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return ChatRequest(fields, bool(body.get("stream")), include_usage)


def read_models(model: object, models: Collection[str]) -> list[str]:
    """Return the names and patterns to which a request restricts the LLMs; empty for all.

    Parameters
    ----------
    model : object
        The request's `model`: "auto", a name, a pattern such as "gpt-*", or a list of them. A leading "!"
        excludes.
    models : collection of str
        Names of the LLMs.

    Examples
    --------
    >>> read_models(["gpt-*", "!gpt-4"], ["gpt-4", "gpt-4-mini", "claude"])
    ['gpt-*', '!gpt-4']
    """
    listed = model if isinstance(model, list) else [AUTO if model is None else model]
    patterns = [pattern for pattern in listed if isinstance(pattern, str) and pattern]
    if not patterns or len(patterns) < len(listed):
        raise invalid_field(
            "model", f"{shown(model)} must be '{AUTO}', the name of an LLM, or a list of names"
        )
    if AUTO in patterns:
        return []
    for pattern in patterns if models else ():
        if not any(fnmatchcase(name, pattern.removeprefix("!")) for name in models):
            raise ApiError(
                404,
                f"The model `{pattern}` does not exist; use `{AUTO}`, or a name from GET /v1/models.",
                code="model_not_found",
                param="model",
            )
    return patterns


def stream_events(body: Mapping[str, Any], include_usage: bool) -> Iterator[bytes]:
    """Yield a response as server-sent events: the whole answer as one delta, then its end and its usage."""
    shared = {key: body.get(key) for key in ("id", "created", "model")}
    shared["object"] = "chat.completion.chunk"
    choices = [choice for choice in body.get("choices") or () if isinstance(choice, dict)]
    usage = {"usage": None} if include_usage else {}
    for key in ("delta", "end"):
        parts = [_delta(choice) if key == "delta" else _last_chunk(choice) for choice in choices]
        yield _event({**shared, "choices": parts, **usage})
    if include_usage:
        yield _event({**shared, "choices": [], "usage": body.get("usage")})
    yield b"data: [DONE]\n\n"


def _delta(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    delta = {key: value for key, value in (message or {}).items() if value is not None}
    if isinstance(calls := delta.get("tool_calls"), list):
        # calls of a stream have their index
        delta["tool_calls"] = [
            {"index": n, **call} if isinstance(call, dict) else call for n, call in enumerate(calls)
        ]
    index, logprobs = choice.get("index", 0), choice.get("logprobs")
    return {
        "index": index,
        "delta": {"role": "assistant", **delta},
        "logprobs": logprobs,
        "finish_reason": None,
    }


def _last_chunk(choice: Mapping[str, Any]) -> dict[str, Any]:
    reason = choice.get("finish_reason") or "stop"
    return {"index": choice.get("index", 0), "delta": {}, "logprobs": None, "finish_reason": reason}


def _event(fields: Mapping[str, Any]) -> bytes:
    return b"data: " + exact_json.encode(dict(fields)) + b"\n\n"


def model_list(models: Iterable[str]) -> dict[str, Any]:
    """Return the response of GET /v1/models: "auto", then the LLMs."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "port-router"} for name in (AUTO, *models)
    ]
    return {"object": "list", "data": data}


def decode_body(raw: bytes) -> dict[str, Any]:
    """Return a request's JSON object.

    Raises
    ------
    ApiError
        Status 400: it is not a JSON object.
    """
    try:
        body = exact_json.decode(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not JSON ({error}).", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, f"The body is a {type(body).__name__}; send a JSON object.", code="invalid_json")
    return body
