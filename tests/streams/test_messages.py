"""The wire formats: what is taken, what is refused and why, and that nothing else is changed."""

import base64
import contextlib
import json
import math

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.messages import (
    MAX_PROMPT_BYTES,
    MAX_VALUE_BYTES,
    Outcome,
    Query,
    Refused,
    decode_outcome,
    decode_query,
    decode_samples,
    encode_embedding,
    encode_outcome,
    encode_routed,
    encode_samples,
    encode_unserved,
    stack_embeddings,
)

DIMENSION = 4
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# the first text that hypothesis draws takes seconds, for it builds its tables of characters
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def encoded(**fields: object) -> bytes:
    return json.dumps({"id": "q1", "prompt": "Why?"} | fields).encode()


def refused(value: bytes | None, dimension: int | None = DIMENSION) -> Refused:
    with pytest.raises(Refused) as caught:
        decode_query(value, dimension)
    return caught.value


def carried(numbers: list[float]) -> str:
    return encode_embedding(np.array(numbers))


# --- queries that are taken ---------------------------------------------------------------------------------


def test_a_query_has_its_fields_and_keeps_unknown_ones():
    value = encoded(max_tokens=7, metadata={"team": "a"}, extra=[1, {"b": None}])

    query = decode_query(value, DIMENSION)

    assert (query.id, query.prompt, query.max_tokens, query.embedding) == ("q1", "Why?", 7, None)
    assert query.fields["extra"] == [1, {"b": None}]
    assert query.value == value


def test_optional_fields_may_be_null():
    query = decode_query(encoded(max_tokens=None, metadata=None, embedding=None), DIMENSION)

    assert (query.max_tokens, query.embedding) == (None, None)


def test_an_embedding_is_the_float16_that_was_sent():
    query = decode_query(encoded(embedding=carried([0.5, -1, 2, 0])), DIMENSION)

    assert np.frombuffer(query.embedding or b"", "<f2").tolist() == [0.5, -1, 2, 0]


def test_a_list_of_numbers_has_the_direction_that_was_sent_whatever_its_length():
    for scale in (1.0, 1e-30, 1e30):
        query = decode_query(encoded(embedding=[3 * scale, 0, 0, -4 * scale]), DIMENSION)
        stacked = stack_embeddings([query], DIMENSION)
        assert stacked.matrix[0] == pytest.approx([0.6, 0, 0, -0.8], abs=1e-3)


def test_without_a_dimension_embeddings_are_not_looked_at():
    assert decode_query(encoded(embedding="not looked at"), None).embedding is None


def test_the_longest_prompt_is_taken():
    prompt = "é" * (MAX_PROMPT_BYTES // 2)

    assert decode_query(json.dumps({"id": "a", "prompt": prompt}).encode(), None).prompt == prompt


# --- queries that are refused -------------------------------------------------------------------------------


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
def test_what_is_wrong_is_refused_with_field_and_reason(value: bytes | None, field: str, reason: str):
    error = refused(value)

    assert (error.stage, error.field) == ("decode", field)
    assert reason in error.reason


def test_a_reason_is_short_however_long_the_value():
    assert len(str(refused(encoded(max_tokens="x" * 100_000)))) < 200


def test_what_is_as_deep_as_can_be_read_goes_on_without_the_routers_names():
    deep = b"[" * 1000 + b"]" * 1000
    query = decode_query(b'{"id":"a","routing":' + deep + b',"prompt":"b","c":' + deep + b"}", None)

    assert query.value == b'{"id":"a","prompt":"b","c":' + deep + b"}"


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(value: bytes):
    with contextlib.suppress(Refused):
        assert isinstance(decode_query(value, DIMENSION), Query)


@patient
@given(
    st.dictionaries(
        st.sampled_from(["id", "prompt", "embedding", "max_tokens", "metadata"]),
        JSON_VALUES,
    )
)
def test_any_json_is_taken_or_refused(fields: dict[str, object]):
    with contextlib.suppress(Refused):
        assert isinstance(decode_query(orjson.dumps(fields), DIMENSION), Query)


@patient
@given(
    st.fixed_dictionaries(
        {"id": st.text(min_size=1, max_size=512), "prompt": st.text(min_size=1)},
        optional={"routing": JSON_VALUES, "reason": JSON_VALUES, "other": JSON_VALUES, "": JSON_VALUES},
    )
)
def test_whatever_else_a_query_holds_goes_on(fields: dict[str, object]):
    query = decode_query(orjson.dumps(fields), DIMENSION)

    routed = orjson.loads(encode_routed(query, {"model": "m"}))

    assert routed.pop("routing") == {"model": "m"}
    assert routed == {key: content for key, content in fields.items() if key not in ("routing", "reason")}


# --- embeddings of a batch ----------------------------------------------------------------------------------


def test_stacked_rows_are_unit_and_the_missing_are_marked():
    queries = [
        decode_query(encoded(embedding=carried([3, 0, 4, 0])), DIMENSION),
        decode_query(encoded(), DIMENSION),
        decode_query(encoded(embedding=carried([0, -2, 0, 0])), DIMENSION),
    ]

    stacked = stack_embeddings(queries, DIMENSION)

    assert stacked.matrix.dtype == np.float32
    assert stacked.matrix == pytest.approx(
        np.array([[0.6, 0, 0.8, 0], [0, 0, 0, 0], [0, -1, 0, 0]]), abs=1e-6
    )
    assert stacked.missing.tolist() == [False, True, False]
    assert stacked.refused == {}


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([math.nan, 0, 0, 1], "NaN or infinite"),
        ([math.inf, 0, 0, 1], "NaN or infinite"),
        ([0, -math.inf, math.inf, 1], "NaN or infinite"),
        ([0, 0, 0, 0], "zero in every dimension"),
    ],
)
def test_a_row_without_direction_is_refused_and_the_others_are_not(numbers: list[float], reason: str):
    good = decode_query(encoded(embedding=carried([1, 1, 1, 1])), DIMENSION)
    bad = decode_query(encoded(embedding=carried(numbers)), DIMENSION)

    stacked = stack_embeddings([good, bad, good], DIMENSION)

    assert list(stacked.refused) == [1]
    assert (stacked.refused[1].stage, stacked.refused[1].field) == ("decode", "embedding")
    assert reason in stacked.refused[1].reason
    assert stacked.matrix.tolist() == [[0.5] * 4, [0.0] * 4, [0.5] * 4]


def test_no_query_no_row():
    assert stack_embeddings([], DIMENSION).matrix.shape == (0, DIMENSION)


@given(st.lists(st.binary(min_size=2 * DIMENSION, max_size=2 * DIMENSION), max_size=6))
def test_any_float16_gives_unit_rows_or_is_refused(raw: list[bytes]):
    values = [encoded(embedding=base64.b64encode(data).decode()) for data in raw]
    stacked = stack_embeddings([decode_query(value, DIMENSION) for value in values], DIMENSION)

    lengths = np.linalg.norm(stacked.matrix.astype(np.float64), axis=1)
    for row, length in enumerate(lengths):
        assert length == pytest.approx(0.0 if row in stacked.refused else 1.0, abs=1e-5)


def test_carrying_an_embedding_costs_less_than_1e_4_of_cosine():
    vectors = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = [decode_query(encoded(embedding=encode_embedding(vector)), 384) for vector in vectors]

    cosine = (stack_embeddings(queries, 384).matrix * vectors).sum(1)

    assert np.abs(cosine - 1).max() < 1e-4


# --- what goes on -------------------------------------------------------------------------------------------


def test_a_routed_query_is_the_bytes_that_came_and_the_routing():
    value = b' { "id" : "a", "prompt": "\\u00e9", "n": 123456789012345678901234567890, "n": 1.0 } \n'

    routed = encode_routed(decode_query(value, DIMENSION), {"model": "gpt-4", "quality": np.float64(0.5)})

    assert routed == value.rstrip()[:-1] + b',"routing":{"model":"gpt-4","quality":0.5}}'
    assert json.loads(routed)["n"] == 1.0


def test_an_unserved_query_says_why():
    query = decode_query(encoded(x=1), DIMENSION)

    fields = json.loads(encode_unserved(query, "budget", {"offset": 3}))

    assert fields == {"id": "q1", "prompt": "Why?", "x": 1, "reason": "budget", "routing": {"offset": 3}}


def test_fields_of_the_routers_own_names_are_replaced():
    value = b'{"id":"a","routing":1,"prompt":"b","reason":2,"routing":3,"x":4}'

    routed = encode_routed(decode_query(value, DIMENSION), {"model": "m"})

    assert routed == b'{"id":"a","prompt":"b","x":4,"routing":{"model":"m"}}'


def test_what_stands_beside_the_routers_own_names_stays_as_it_came():
    value = (
        b' {"id":"a" , "re\\u0061son":"}\\",{", "n":123456789012345678901234567890,"prompt":"b, \\u00e9",'
        b'"routing":{"reason":[1,{"x":"\\\\"}]},"f":1.10e+2,"f":0.1000000000000000055511151231257827 } '
    )

    query = decode_query(value, DIMENSION)

    assert query.value == (
        b'{"id":"a" , "n":123456789012345678901234567890,"prompt":"b, \\u00e9",'
        b'"f":1.10e+2,"f":0.1000000000000000055511151231257827 }'
    )
    assert "reason" not in query.fields


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["reason", "routing", "n", "", "rou\\ting", '"reason"']) | st.text(max_size=5),
        JSON_VALUES | st.integers() | st.integers().map(lambda number: {"deep": [number]}),
    ),
    max_size=8,
)


@patient
@given(MEMBERS, st.booleans(), st.sampled_from([(",", ":"), (" ,\n", "\t: ")]))
def test_members_of_other_names_go_on_byte_for_byte(
    members: list[tuple[str, object]], ascii_only: bool, separators: tuple[str, str]
):
    def member(name: str, content: object) -> str:
        spelled = json.dumps(content, ensure_ascii=ascii_only, separators=separators)
        return json.dumps(name, ensure_ascii=ascii_only) + separators[1] + spelled

    def written(members: list[tuple[str, object]]) -> bytes:
        ours = [("id", "a"), ("prompt", "b")]
        return ("{" + ",".join(member(*pair) for pair in [*members, *ours]) + "}").encode()

    members = [pair for pair in members if pair[0] not in ("id", "prompt", "max_tokens", "metadata")]
    left = [(name, content) for name, content in members if name not in ("reason", "routing")]

    assert decode_query(written(members), None).value == written(left)


# --- outcomes -----------------------------------------------------------------------------------------------


def test_outcome_there_and_back():
    outcome = Outcome("a", "gpt-4", 0.0125, 0.75, 3, 2**40)

    assert decode_outcome(encode_outcome(outcome)) == outcome


def test_quality_of_an_outcome_may_be_unknown():
    outcome = Outcome("a", "gpt-4", 0.0, None, 0, 0)

    assert decode_outcome(encode_outcome(outcome)) == outcome


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"model": ""}, "model"),
        ({"cost": None}, "cost"),
        ({"cost": -1e-9}, "cost"),
        ({"cost": "1"}, "cost"),
        ({"cost": True}, "cost"),
        ({"cost": 1e7}, "cost"),
        ({"quality": 1.01}, "quality"),
        ({"quality": -0.1}, "quality"),
        ({"partition": None}, "partition"),
        ({"partition": -1}, "partition"),
        ({"partition": 1.0}, "partition"),
        ({"offset": True}, "offset"),
        ({"offset": 2**63}, "offset"),
    ],
)
def test_a_wrong_outcome_is_refused(change: dict[str, object], field: str):
    fields = {"id": "a", "model": "m", "cost": 0.1, "partition": 0, "offset": 0} | change

    with pytest.raises(Refused) as caught:
        decode_outcome(json.dumps(fields).encode())

    assert (caught.value.stage, caught.value.field) == ("decode", field)


@patient
@given(
    st.dictionaries(st.sampled_from(["id", "model", "cost", "quality", "partition", "offset"]), JSON_VALUES)
)
def test_any_outcome_is_taken_or_refused(fields: dict[str, object]):
    try:
        outcome = decode_outcome(orjson.dumps(fields))
    except Refused:
        return
    assert decode_outcome(encode_outcome(outcome)) == outcome


# --- samples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "exact"), [("<f4", 1e-7), ("<f8", 0.0)])
def test_samples_there_and_back(dtype: str, exact: float):
    rng = np.random.default_rng(0)
    quality, cost = rng.random((5, 3)), rng.random((5, 3)) * 1e-6

    header, read_quality, read_cost = decode_samples(encode_samples({"period": 2}, quality, cost, dtype))

    assert header == {"period": 2}
    np.testing.assert_allclose(read_quality, quality, rtol=exact)
    np.testing.assert_allclose(read_cost, cost, rtol=exact)


def test_samples_of_nothing():
    _, quality, cost = decode_samples(encode_samples({}, np.zeros((0, 3)), np.zeros((0, 3))))

    assert quality.shape == cost.shape == (0, 3)


@pytest.mark.parametrize(
    "change",
    [{"shape": [2, 3]}, {"shape": None}, {"dtype": "<c8"}, {"quality": "?"}, {"cost": None}, {"cost": 7}],
)
def test_broken_samples_are_refused(change: dict[str, object]):
    fields = orjson.loads(encode_samples({}, np.ones((1, 3)), np.ones((1, 3)))) | change

    with pytest.raises(Refused):
        decode_samples(orjson.dumps(fields))
