import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.history.nearest import CROSSINGS, TIE, NeighbourIndex, crossing


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def by_hand(history, query, k, own=None):
    """Return the rows by the rule: those nearer than a tie first, then ties of the k-th in row order."""
    similarity = history.astype(np.float64) @ query.astype(np.float64)
    if own is not None:
        similarity[own] = -np.inf
    kth = np.sort(similarity)[::-1][k - 1]
    nearer = np.flatnonzero(similarity > kth + TIE)
    ties = np.flatnonzero(np.abs(similarity - kth) <= TIE)
    return set(nearer) | set(ties[: k - len(nearer)])


@st.composite
def histories_full_of_ties(draw):
    """Return repeated directions on a coarse grid: similarities are equal or clearly different."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    rows, kinds = draw(st.integers(2, 120)), draw(st.integers(1, 12))
    directions = unit(rng.integers(-2, 3, (kinds, 4)) + np.array([0.1, 0.01, 0.001, 0]))
    return directions[rng.integers(0, kinds, rows)], directions[rng.integers(0, kinds, 30)]


@settings(max_examples=60)
@given(histories_full_of_ties(), st.data())
def test_search_ties_go_to_the_first_rows_in_any_batch(given_, data):
    history, queries = given_
    k = data.draw(st.integers(1, len(history)))
    index = NeighbourIndex(history)
    similarity, rows = index.search(queries, k)
    assert rows.shape == similarity.shape == (len(queries), k)
    for i, query in enumerate(queries):
        assert set(rows[i]) == by_hand(history, query, k)
        assert set(index.search(query[None], k)[1][0]) == set(rows[i])
    assert np.all(np.diff(similarity, axis=1) <= TIE)
    assert np.allclose(similarity, np.take_along_axis(queries @ history.T, rows, 1), atol=1e-6)


@settings(max_examples=40)
@given(histories_full_of_ties(), st.data())
def test_search_own_excludes_the_row_and_keeps_its_duplicates(given_, data):
    history, _ = given_
    k = data.draw(st.integers(1, len(history) - 1))
    _, rows = NeighbourIndex(history).search_own(k)
    for i in range(len(history)):
        assert i not in rows[i]
        assert set(rows[i]) == by_hand(history, history[i], k, own=i)


def test_search_equal_rows_returns_the_first_k():
    history = unit(np.ones((3000, 5)))
    _, rows = NeighbourIndex(history).search(history[:25], 7)
    assert np.array_equal(np.sort(rows, axis=1), np.tile(np.arange(7), (25, 1)))


def test_search_hnsw_nearly_equals_the_exact_search():
    rng = np.random.default_rng(0)
    history, queries = unit(rng.standard_normal((3000, 16))), unit(rng.standard_normal((200, 16)))
    exact, graph = NeighbourIndex(history), NeighbourIndex(history, "hnsw")
    expected = [
        len(set(a) & set(b))
        for a, b in zip(exact.search(queries, 10)[1], graph.search(queries, 10)[1], strict=True)
    ]
    assert sum(expected) >= 0.97 * 2000
    own = graph.search_own(5)[1]
    assert not (own == np.arange(3000)[:, None]).any()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize("n", [1, 30])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_search_query_that_is_not_finite_raises(kind, n, value):
    index = NeighbourIndex(unit(np.eye(8)), kind)
    queries = np.tile(unit(np.ones((1, 8))), (n, 1))
    queries[-1, 3] = value
    with pytest.raises(ValueError, match=f"embeddings: row {n - 1} is not finite"):
        index.search(queries, 3)


def test_search_query_of_another_length_raises():
    with pytest.raises(ValueError, match=r"shape \(1, 4\), the history's have length 8"):
        NeighbourIndex(unit(np.eye(8))).search(unit(np.ones((1, 4))), 3)


def test_search_hnsw_with_duplicates_returns_k_rows():
    history = unit(np.repeat(np.eye(6), 200, axis=0))
    similarity, rows = NeighbourIndex(history, "hnsw").search(history[::100], 300)
    assert rows.shape == (12, 300)
    assert all(len(set(row)) == 300 for row in rows)
    assert similarity[:, 0] == pytest.approx(np.ones(12), abs=1e-6)


@pytest.mark.parametrize("k", [0, 11])
def test_search_k_out_of_range_raises(k):
    with pytest.raises(ValueError, match=f"k: {k} must be 1 to 10"):
        NeighbourIndex(unit(np.eye(10))).search(unit(np.eye(10)), k)


def test_index_unknown_kind_raises():
    with pytest.raises(ValueError, match="'annoy' is neither"):
        NeighbourIndex(unit(np.eye(3)), "annoy")


@pytest.mark.parametrize(
    ("product", "loop", "expected"),
    [(0.0039, 0.002, 4), (0.0049, 0.001, 10), (0.001, 0.1, CROSSINGS[0]), (1.0, 0.001, CROSSINGS[1])],
)
def test_crossing_returns_the_batch_size_where_the_product_is_faster(product, loop, expected):
    """Measure by a clock on which eight queries by product take `product` seconds and two by loop `loop`."""
    history = unit(np.random.default_rng(0).normal(size=(50, 8)))
    moments = iter(np.cumsum([0, product, 1, loop, 1, 9 * product, 1, 9 * loop]).tolist())
    assert crossing(history, lambda: next(moments), rounds=2) == expected


def test_search_by_product_equals_search_by_loop(monkeypatch):
    rng = np.random.default_rng(0)
    history, queries = unit(rng.normal(size=(500, 16))), unit(rng.normal(size=(12, 16)))
    index, expected = NeighbourIndex(history), []
    for product_from in (1, 100):
        monkeypatch.setattr(NeighbourIndex, "product_from", product_from)
        expected.append(index.search(queries, 5)[1])
    assert np.array_equal(expected[0], expected[1])
