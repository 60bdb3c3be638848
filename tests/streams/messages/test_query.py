"""Queries: which are accepted, which are rejected and why."""

import contextlib
import json
import re

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.messages.fields import MAX_VALUE_BYTES
from streams.messages.query import (
    MAX_PROMPT_BYTES,
    Query,
    decode_query,
    encode_routed,
    stack_embeddings,
)
from streams.messages.rejection import RejectedMessage
from tests.streams.messages.query_values import (
    DIMENSION,
    JSON_VALUES,
    ROUTING,
    carried,
    encoded,
    rejection_of,
    slow_to_draw,
)


def test_decode_query_unknown_fields_are_kept():
    value = encoded(max_tokens=7, metadata={"team": "a"}, extra=[1, {"b": None}])

    query = decode_query(value, DIMENSION)

    assert (query.id, query.prompt, query.max_tokens, query.embedding) == ("q1", "Why?", 7, None)
    assert query.fields["extra"] == [1, {"b": None}]
    assert query.value == value


def test_decode_query_optional_fields_may_be_null():
    query = decode_query(encoded(max_tokens=None, metadata=None, embedding=None), DIMENSION)

    assert (query.max_tokens, query.embedding) == (None, None)


def test_decode_query_base64_embedding_is_kept_as_float16():
    query = decode_query(encoded(embedding=carried([0.5, -1, 2, 0])), DIMENSION)

    assert np.frombuffer(query.embedding or b"", "<f2").tolist() == [0.5, -1, 2, 0]


def test_decode_query_list_embedding_of_any_length_keeps_its_direction():
    for scale in (1.0, 1e-30, 1e30):
        query = decode_query(encoded(embedding=[3 * scale, 0, 0, -4 * scale]), DIMENSION)
        stacked = stack_embeddings([query], DIMENSION)
        assert stacked.matrix[0] == pytest.approx([0.6, 0, 0, -0.8], abs=1e-3)


def test_decode_query_without_dimension_ignores_embedding():
    assert decode_query(encoded(embedding="not looked at"), None).embedding is None


def of_messages(*messages: object, **fields: object) -> bytes:
    return json.dumps({"id": "a", "messages": messages, **fields}).encode()


SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
PARTS = {"role": "user", "content": [{"type": "text", "text": "Why"}, {"type": "image_url"}, {"text": "?"}]}


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([{"role": "user", "content": "Why?"}], "Why?"),
        ([SYSTEM, *EARLIER, {"role": "user", "content": "Why?"}], "Why?\n\nBe brief.\n\nHi\n\nHello"),
        ([SYSTEM, PARTS, {"role": "assistant", "content": None}], "Why\n\n?\n\nBe brief."),
        ([SYSTEM], "Be brief."),
    ],
)
def test_decode_query_messages_become_the_prompt(messages: list, prompt: str):
    value = of_messages(*messages, prompt=None)

    query = decode_query(value, None)

    assert query.prompt == prompt
    assert query.value == value
    assert decode_query(of_messages(*messages, prompt="own"), None).prompt == "own"


@pytest.mark.parametrize(
    ("messages", "field", "reason"),
    [
        ([], "messages", "[] must be a list that is not empty"),
        (["Why?"], "messages[0]", "must be an object with role"),
        ([{"role": "user", "content": 7}], "messages[0].content", "7 must be a text or a list"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages", "have no text"),
        ([{"role": "user", "content": "x" * (MAX_PROMPT_BYTES + 1)}], "messages", "has 1048577 bytes"),
    ],
)
def test_decode_query_messages_without_text_are_rejected(messages: list, field: str, reason: str):
    with pytest.raises(RejectedMessage, match=re.escape(reason)) as refused:
        decode_query(of_messages(*messages), None)
    assert refused.value.field == field


def test_decode_query_longest_prompt_is_accepted():
    prompt = "é" * (MAX_PROMPT_BYTES // 2)

    assert decode_query(json.dumps({"id": "a", "prompt": prompt}).encode(), None).prompt == prompt


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        (None, "value", "is null"),
        (b"", "value", "is not JSON"),
        (b"{", "value", "is not JSON"),
        (b'{"id": "a", "prompt": NaN}', "value", "is not JSON"),
        (b"\xff\xfe{}", "value", "is not JSON"),
        ('{"id": "a", "prompt": "é"}'.encode("latin-1"), "value", "is not JSON"),
        ('{"id": "a", "prompt": "b"}'.encode("utf-16"), "value", "is not JSON"),
        (b"[" * 100_000, "value", "is not JSON"),
        (b'{"id":"a","prompt":"b","c":' + b"[" * 5000 + b"]" * 5000 + b"}", "value", "is not JSON"),
        (b"[]", "value", "list"),
        (b'"text"', "value", "str"),
        (b'{"prompt": "b"}', "id", "is missing"),
        (b'{"id": "", "prompt": "b"}', "id", "not empty"),
        (b'{"id": 7, "prompt": "b"}', "id", "7 must be a text"),
        (encoded(id="x" * 513), "id", "513 characters"),
        (encoded(id="x" * 2**20), "id", "1048576 characters"),
        (b'{"id": "a"}', "prompt", "is missing"),
        (encoded(prompt=""), "prompt", "not empty"),
        (encoded(prompt=["a"]), "prompt", "must be a text"),
        (encoded(prompt="x" * 2_000_000), "prompt", "has 2000000 bytes"),
        (encoded(extra="x" * MAX_VALUE_BYTES), "value", "bytes; at most"),
        (encoded(max_tokens=0), "max_tokens", "0 must be"),
        (encoded(max_tokens=-5), "max_tokens", "-5 must be"),
        (encoded(max_tokens=1.5), "max_tokens", "1.5 must be"),
        (encoded(max_tokens=True), "max_tokens", "True must be"),
        (encoded(max_tokens="7"), "max_tokens", "'7' must be"),
        (encoded(max_tokens=10**9), "max_tokens", "1000000000 must be"),
        (encoded(metadata=[1]), "metadata", "must be an object"),
        (encoded(embedding=7), "embedding", "is a int"),
        (encoded(embedding="?"), "embedding", "is not base64"),
        (encoded(embedding="AAAA AAA"), "embedding", "is not base64"),
        (encoded(embedding=""), "embedding", "has 0 bytes; 4 numbers of float16 are 8 bytes"),
        (encoded(embedding=carried([1, 2, 3])), "embedding", "has 6 bytes"),
        (encoded(embedding=[1, 2, 3]), "embedding", "has 3 numbers"),
        (encoded(embedding=[1, 2, 3, "4"]), "embedding", "not a number"),
        (encoded(embedding=[1, 2, 3, True]), "embedding", "not a number"),
        (encoded(embedding=[1, 2, 3, None]), "embedding", "not a number"),
        (encoded(embedding=[1, 2, 3, [4]]), "embedding", "not a number"),
        (encoded(embedding=[0, 0, 0, 0]), "embedding", "zero in every dimension"),
        (encoded(embedding=[1e200, 0, 0, 0]), "embedding", "beyond 1e150"),
    ],
)
def test_decode_query_invalid_value_names_field_and_reason(value: bytes | None, field: str, reason: str):
    error = rejection_of(value)

    assert (error.stage, error.field) == ("decode", field)
    assert reason in error.text


def test_decode_query_long_invalid_value_gives_a_short_reason():
    assert len(str(rejection_of(encoded(max_tokens="x" * 100_000)))) < 200


def test_decode_query_deepest_value_loses_only_added_fields():
    deep = b"[" * 1000 + b"]" * 1000
    query = decode_query(b'{"id":"a","routing":' + deep + b',"prompt":"b","c":' + deep + b"}", None)

    assert query.value == b'{"id":"a","prompt":"b","c":' + deep + b"}"


@given(st.binary(max_size=200))
def test_decode_query_any_bytes_are_accepted_or_rejected(value: bytes):
    with contextlib.suppress(RejectedMessage):
        assert isinstance(decode_query(value, DIMENSION), Query)


@slow_to_draw
@given(
    st.dictionaries(
        st.sampled_from(["id", "prompt", "embedding", "max_tokens", "metadata"]),
        JSON_VALUES,
    )
)
def test_decode_query_any_json_is_accepted_or_rejected(fields: dict[str, object]):
    with contextlib.suppress(RejectedMessage):
        assert isinstance(decode_query(orjson.dumps(fields), DIMENSION), Query)


@slow_to_draw
@given(
    st.fixed_dictionaries(
        {"id": st.text(min_size=1, max_size=512), "prompt": st.text(min_size=1)},
        optional={"routing": JSON_VALUES, "reason": JSON_VALUES, "other": JSON_VALUES, "": JSON_VALUES},
    )
)
def test_encode_routed_keeps_all_other_fields(fields: dict[str, object]):
    query = decode_query(orjson.dumps(fields), DIMENSION)

    routed = orjson.loads(encode_routed(query, ROUTING.encode()))

    assert routed.pop("routing") == {"partition": 0, "offset": 3, "attempt": 1}
    assert routed == {key: content for key, content in fields.items() if key not in ("routing", "reason")}
