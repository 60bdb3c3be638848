"""Needs of a request: capabilities and tokens, read from messages and parameters; values of groups."""

import json

import pytest

from streams.messages.group_value import field_value
from streams.messages.query import Query, decode_query
from streams.messages.request_needs import (
    TOKENS_PER_IMAGE,
    answer_limit,
    estimated_prompt_tokens,
    needed_capabilities,
)


def query_of(**fields: object) -> Query:
    return decode_query(json.dumps({"id": "a", "prompt": "Why?", **fields}).encode(), None)


def chat(*parts: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "text", "text": "Why?"}, *parts]}]


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"messages": chat()}, set()),
        ({"messages": chat({"type": "image_url", "image_url": {"url": "x"}})}, {"vision"}),
        ({"messages": chat({"type": "input_audio"}, {"type": "input_image"})}, {"audio", "vision"}),
        ({"messages": chat({"type": 7}, "text")}, set()),
        ({"parameters": {"tools": [{"type": "function"}]}}, {"tools"}),
        ({"parameters": {"tools": [], "functions": None}}, set()),
        ({"tools": [{"type": "function"}]}, {"tools"}),
        ({"parameters": {"response_format": {"type": "json_schema"}}}, {"json_schema"}),
        ({"parameters": {"response_format": {"type": "json_object"}}}, set()),
        ({"parameters": {"modalities": ["text", "audio"]}}, {"audio"}),
        ({"parameters": {"response_format": "text", "modalities": "audio"}}, set()),
    ],
)
def test_needed_capabilities_follow_from_the_request(fields: dict, needs: set[str]):
    assert needed_capabilities(query_of(**fields)) == needs


def test_estimated_prompt_tokens_count_bytes_and_images():
    assert estimated_prompt_tokens(query_of(prompt="é" * 30)) == 20
    assert estimated_prompt_tokens(query_of(messages=chat({"type": "image_url"}))) == 2 + TOKENS_PER_IMAGE


def test_answer_limit_is_the_field_or_the_parameter():
    assert answer_limit(query_of()) is None
    assert answer_limit(query_of(max_tokens=7, parameters={"max_tokens": 9})) == 7
    assert answer_limit(query_of(parameters={"max_tokens": 9, "max_completion_tokens": 8})) == 8
    assert answer_limit(query_of(parameters={"max_tokens": "9"})) is None


def test_field_value_reads_metadata_and_the_last_header():
    query = query_of(metadata={"team": "search", "size": 7})
    headers = [("tenant", b"one"), ("tenant", b"two"), ("raw", b"\xff"), ("none", None)]

    assert field_value(query, None, "metadata.team") == "search"
    assert field_value(query, None, "metadata.size") == 7
    assert field_value(query, headers, "header:tenant") == "two"
    for missing in ("metadata.other", "header:raw", "header:none", "header:other"):
        assert field_value(query, headers, missing) is None
    assert field_value(query_of(), headers, "metadata.team") is None
