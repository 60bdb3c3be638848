"""Needs of a request: capabilities that an LLM must have, and tokens that must fit its context window."""

from __future__ import annotations

from typing import Any

from streams.messages.query import Query

BYTES_PER_TOKEN = 3
"""Bytes of text that count as one token: fewer than English has, about as many as code and Chinese have."""

TOKENS_PER_IMAGE = 1000

_CAPABILITY_OF_PART = {
    "image_url": "vision",
    "input_image": "vision",
    "image": "vision",
    "input_audio": "audio",
    "audio": "audio",
}


def needed_capabilities(query: Query) -> frozenset[str]:
    """Return the capabilities that a query's request needs: tools, vision, audio, json_schema.

    They follow from `messages`, and from `tools`, `functions`, `response_format` and `modalities` among the
    query's parameters or fields.

    Examples
    --------
    >>> from streams.messages.query import decode_query
    >>> value = b'{"id": "a", "prompt": "b", "parameters": {"tools": [{"type": "function"}]}}'
    >>> sorted(needed_capabilities(decode_query(value, None)))
    ['tools']
    """
    fields = query.fields
    parameters = fields.get("parameters")
    needs: set[str] = set()
    for place in (fields, parameters):
        if isinstance(place, dict):
            needs |= _of_parameters(place)
    messages = fields.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            needs |= {
                _CAPABILITY_OF_PART[kind] for kind in _part_kinds(message) if kind in _CAPABILITY_OF_PART
            }
    return frozenset(needs)


def estimated_prompt_tokens(query: Query) -> int:
    """Return an estimate of the prompt's tokens, by its bytes and its images.

    Examples
    --------
    >>> from streams.messages.query import decode_query
    >>> estimated_prompt_tokens(decode_query(b'{"id": "a", "prompt": "Why is the sky blue?"}', None))
    7
    """
    messages = query.fields.get("messages")
    images = 0
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            images += sum(_CAPABILITY_OF_PART.get(kind) == "vision" for kind in _part_kinds(message))
    return -(-len(query.prompt.encode()) // BYTES_PER_TOKEN) + images * TOKENS_PER_IMAGE


def answer_limit(query: Query) -> int | None:
    """Return the maximum answer tokens that the query sets, or None."""
    if query.max_tokens is not None:
        return query.max_tokens
    parameters = query.fields.get("parameters")
    if isinstance(parameters, dict):
        for name in ("max_completion_tokens", "max_tokens"):
            limit = parameters.get(name)
            if type(limit) is int and limit > 0:
                return limit
    return None


def _of_parameters(parameters: dict[str, Any]) -> set[str]:
    needs = set()
    if parameters.get("tools") or parameters.get("functions"):
        needs.add("tools")
    response_format = parameters.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        needs.add("json_schema")
    modalities = parameters.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        needs.add("audio")
    return needs


def _part_kinds(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    if not isinstance(content, list):
        return []
    kinds = [part.get("type") for part in content if isinstance(part, dict)]
    return [kind for kind in kinds if isinstance(kind, str)]
