"""Loading of the estimation: the neighbour graph saved with the history, or a new one."""

from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from routing.embedding.embedder import load_embedder
from routing.embedding.unit_vectors import normalised
from routing.history.history import EmbeddedHistory, History
from routing.history.nearest import NeighbourIndex
from routing.history.rules import HistoryError
from streams.config.settings import Settings
from streams.router.estimation import load_estimation, load_history

CATALOGUE = Catalogue((Model("a"), Model("b")), budget_usd=1.0)


@pytest.fixture
def history() -> EmbeddedHistory:
    rng = np.random.default_rng(0)
    names = [f"q{i}" for i in range(60)]
    known = History(names, names, ["t"] * 60, ["a", "b"], rng.random((60, 2)), rng.random((60, 2)))
    return EmbeddedHistory(known, normalised(rng.standard_normal((60, 384))), load_embedder().identity)


def settings(folder: Path, index: str) -> Settings:
    return Settings(history=folder, index=index)  # type: ignore[arg-type]


def test_load_history_with_saved_graph_does_not_rebuild_it(
    history: EmbeddedHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history.save(tmp_path / "without")
    history.save(tmp_path / "with", NeighbourIndex(history.embeddings, "hnsw"))
    with capture_logs() as logs:
        built = load_estimation(settings(tmp_path / "without", "hnsw"), CATALOGUE)

        def not_again(*arguments: object) -> None:
            raise AssertionError("a graph is built")

        monkeypatch.setattr(NeighbourIndex, "__init__", not_again)
        loaded = load_estimation(settings(tmp_path / "with", "hnsw"), CATALOGUE)

    ready = [entry["saved"] for entry in logs if entry["event"] == "graph_ready"]
    assert ready == [False, True]
    queries = history.batch(slice(0, 9))
    assert np.array_equal(
        built.estimator.estimate(queries).quality, loaded.estimator.estimate(queries).quality
    )


def test_load_history_with_exact_search_ignores_saved_graph(history: EmbeddedHistory, tmp_path: Path):
    history.save(tmp_path, NeighbourIndex(history.embeddings, "hnsw"))

    assert load_history(settings(tmp_path, "exact")).graph is None


def test_load_history_with_changed_graph_raises(history: EmbeddedHistory, tmp_path: Path):
    history.save(tmp_path, NeighbourIndex(history.embeddings, "hnsw"))
    (path,) = tmp_path.glob("index-*.faiss")
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(HistoryError, match="digest"):
        load_history(settings(tmp_path, "hnsw"))


def test_own_rows_of_a_long_history_are_a_sample_and_estimated_as_among_all(
    history: EmbeddedHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history.save(tmp_path)
    everything = load_estimation(settings(tmp_path, "exact"), CATALOGUE)
    assert np.array_equal(everything.own_rows, np.arange(60))
    monkeypatch.setattr("streams.router.estimation.MAX_OWN_SIMILARITIES", 60 * 25)
    monkeypatch.setattr("streams.router.estimation.MIN_OWN_ROWS", 10)
    sampled = load_estimation(settings(tmp_path, "exact"), CATALOGUE)
    assert len(np.unique(sampled.own_rows)) == 25
    assert sampled.leave_one_out().cost == pytest.approx(everything.leave_one_out().cost[sampled.own_rows])
    assert sampled.cost_quantile(0.9).ratios.keys() == {"a", "b"}
    monkeypatch.setattr("streams.router.estimation.MIN_OWN_ROWS", 30)
    assert len(load_estimation(settings(tmp_path, "exact"), CATALOGUE).own_rows) == 30
