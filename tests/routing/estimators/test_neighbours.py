import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.embedding.query_batch import QueryBatch
from routing.estimators.neighbours import LENGTH_OFFSET, Neighbours
from routing.history.history import EmbeddedHistory, History
from routing.history.nearest import NeighbourIndex


def a_history(seed=0, rows=60, models=3, d=6):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, d))
    vectors[rows // 2 :] = vectors[
        rng.integers(0, rows // 2, rows - rows // 2)
    ]  # Every second row has a duplicate.
    history = History(
        ids=[str(i) for i in range(rows)],
        prompts=["x" * int(n) for n in rng.integers(0, 500, rows)],
        tasks=[""] * rows,
        models=[f"m{i}" for i in range(models)],
        quality=rng.integers(0, 2, (rows, models)),
        cost=rng.gamma(2, 1e-4, (rows, models)),
    )
    return EmbeddedHistory(history, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), "test")


def queries(seed, n, d=6):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return QueryBatch(["y" * int(length) for length in rng.integers(0, 900, n)], vectors)


def by_hand(history, query, length, k, weights, cost, temperature=10.0):
    """Return the definition for one query, in float64, over a history without ties at the k-th position."""
    similarity = history.embeddings.astype(np.float64) @ query.astype(np.float64)
    near = np.argsort(-similarity, kind="stable")[:k]
    w = np.ones(k) if weights == "uniform" else np.exp(temperature * (similarity[near] - similarity[near[0]]))
    w /= w.sum()
    chars = np.array([len(history.history.prompts[i]) for i in near]) + LENGTH_OFFSET
    answers = history.history
    paid = (
        answers.cost[near]
        if cost == "mean"
        else answers.cost[near] / chars[:, None] * (length + LENGTH_OFFSET)
    )
    return w @ answers.quality[near], w @ paid


every_kind = pytest.mark.parametrize(
    ("weights", "cost"),
    [("uniform", "mean"), ("uniform", "per-length"), ("similarity", "mean"), ("similarity", "per-length")],
)


@every_kind
def test_estimate_equals_the_definition(weights, cost):
    # An odd k could split a pair of duplicates, whose order is a tie; see test_nearest.
    history, batch = a_history().select(np.arange(30)), queries(1, 40)
    estimator = Neighbours(history, k=7, weights=weights, cost=cost)
    estimates = estimator.estimate(batch)
    assert estimates.quality.shape == estimates.cost.shape == (40, 3)
    for i in range(40):
        quality, paid = by_hand(history, batch.embeddings[i], len(batch.prompts[i]), 7, weights, cost)
        assert estimates.quality[i] == pytest.approx(quality, abs=1e-5)
        assert estimates.cost[i] == pytest.approx(paid, rel=1e-5)


@every_kind
def test_leave_one_out_equals_the_estimate_without_the_row(weights, cost):
    history = a_history()
    estimates = Neighbours(history, k=5, weights=weights, cost=cost).leave_one_out()
    for row in range(len(history)):
        others = np.delete(np.arange(len(history)), row)
        alone = Neighbours(history.select(others), k=5, weights=weights, cost=cost).estimate(
            history.batch([row])
        )
        assert estimates.quality[row] == pytest.approx(alone.quality[0], abs=1e-6)
        assert estimates.cost[row] == pytest.approx(alone.cost[0], rel=1e-6)


@every_kind
def test_leave_one_out_of_some_rows_equals_those_rows_of_all(weights, cost):
    estimator, some = Neighbours(a_history(), k=5, weights=weights, cost=cost), np.array([3, 10, 11, 40])
    estimates, of_all = estimator.leave_one_out(some), estimator.leave_one_out()
    assert estimates.quality == pytest.approx(of_all.quality[some], abs=1e-6)
    assert estimates.cost == pytest.approx(of_all.cost[some], rel=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 70))
def test_estimate_batch_equals_one_query_at_a_time(seed, k, n):
    history, batch = a_history(seed), queries(seed + 1, n)
    for weights, cost, exact in (("uniform", "mean", True), ("similarity", "per-length", False)):
        estimator = Neighbours(history, k=k, weights=weights, cost=cost)
        together = estimator.estimate(batch)
        for i in range(n):
            alone = estimator.estimate(QueryBatch([batch.prompts[i]], batch.embeddings[i : i + 1]))
            if exact:
                assert np.array_equal(alone.quality[0], together.quality[i])
                assert np.array_equal(alone.cost[0], together.cost[i])
            else:
                assert alone.quality[0] == pytest.approx(together.quality[i], abs=1e-5)
                assert alone.cost[0] == pytest.approx(together.cost[i], rel=1e-5)


def test_neighbours_returns_similarities_and_rows():
    history = a_history()
    estimator = Neighbours(history, k=4)
    similarity, rows = estimator.neighbours(history.batch([3, 40]))
    assert similarity.shape == rows.shape == (2, 4)
    assert similarity[:, 0] == pytest.approx([1, 1], abs=1e-6)
    assert 3 in rows[0]
    assert 40 in rows[1]


def test_estimate_cost_is_never_zero():
    history = a_history()
    free = History(
        history.history.ids,
        history.history.prompts,
        history.history.tasks,
        history.models,
        history.history.quality,
        np.zeros_like(history.history.cost),
    )
    estimator = Neighbours(EmbeddedHistory(free, history.embeddings, "test"), k=3)
    assert (estimator.estimate(queries(0, 5)).cost == 1e-12).all()


def test_estimate_without_queries_is_empty():
    estimator = Neighbours(a_history(), k=3, weights="similarity", cost="per-length")
    none = estimator.estimate(QueryBatch([], np.zeros((0, 6), dtype=np.float32)))
    assert none.quality.shape == none.cost.shape == (0, 3)


def test_estimate_with_a_loaded_index_equals_a_built_one():
    history, batch = a_history(), queries(3, 20)
    built = Neighbours(history, k=5, index="hnsw")
    given_ = Neighbours(history, k=5, index=NeighbourIndex(history.embeddings, "hnsw"))
    assert np.array_equal(built.estimate(batch).quality, given_.estimate(batch).quality)
    with pytest.raises(ValueError, match="index: 10 rows for a history of 60"):
        Neighbours(history, k=5, index=NeighbourIndex(history.embeddings[:10]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 61}, "k: 61"),
        ({"k": 0}, "k: 0"),
        ({"weights": "best"}, "'best'"),
        ({"cost": "median"}, "'median'"),
    ],
)
def test_neighbours_invalid_settings_raise(options, words):
    with pytest.raises(ValueError, match=words):
        Neighbours(a_history(), **options)
