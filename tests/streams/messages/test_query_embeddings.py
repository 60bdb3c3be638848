"""Embeddings of a batch of queries."""

import base64
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.messages.query import (
    decode_query,
    encode_embedding,
    stack_embeddings,
)
from tests.streams.messages.query_values import (
    DIMENSION,
    carried,
    encoded,
)


def test_stack_embeddings_returns_unit_rows_and_marks_missing_ones():
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
def test_stack_embeddings_row_without_direction_is_rejected_alone(numbers: list[float], reason: str):
    good = decode_query(encoded(embedding=carried([1, 1, 1, 1])), DIMENSION)
    bad = decode_query(encoded(embedding=carried(numbers)), DIMENSION)

    stacked = stack_embeddings([good, bad, good], DIMENSION)

    assert list(stacked.refused) == [1]
    assert (stacked.refused[1].stage, stacked.refused[1].field) == ("decode", "embedding")
    assert reason in stacked.refused[1].text
    assert stacked.matrix.tolist() == [[0.5] * 4, [0.0] * 4, [0.5] * 4]


def test_stack_embeddings_without_queries_is_empty():
    assert stack_embeddings([], DIMENSION).matrix.shape == (0, DIMENSION)


@given(st.lists(st.binary(min_size=2 * DIMENSION, max_size=2 * DIMENSION), max_size=6))
def test_stack_embeddings_any_float16_is_normalised_or_rejected(raw: list[bytes]):
    values = [encoded(embedding=base64.b64encode(data).decode()) for data in raw]
    stacked = stack_embeddings([decode_query(value, DIMENSION) for value in values], DIMENSION)

    lengths = np.linalg.norm(stacked.matrix.astype(np.float64), axis=1)
    for row, length in enumerate(lengths):
        assert length == pytest.approx(0.0 if row in stacked.refused else 1.0, abs=1e-5)


def test_encode_embedding_loses_less_than_1e_4_of_cosine():
    vectors = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = [decode_query(encoded(embedding=encode_embedding(vector)), 384) for vector in vectors]

    cosine = (stack_embeddings(queries, 384).matrix * vectors).sum(1)

    assert np.abs(cosine - 1).max() < 1e-4
