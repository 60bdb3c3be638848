"""What a worker estimates with: the graph of neighbours that was saved with the history, or one built now."""

from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from routing.catalogue import Catalogue, Model
from routing.embedding import load_embedder
from routing.history import EmbeddedHistory, History, HistoryError
from routing.index import NeighbourIndex
from routing.unit import normalised
from streams.estimating import load_estimating, load_known
from streams.settings import Settings

CATALOGUE = Catalogue((Model("a"), Model("b")), budget_usd=1.0)


@pytest.fixture
def history() -> EmbeddedHistory:
    rng = np.random.default_rng(0)
    names = [f"q{i}" for i in range(60)]
    known = History(names, names, ["t"] * 60, ["a", "b"], rng.random((60, 2)), rng.random((60, 2)))
    return EmbeddedHistory(known, normalised(rng.standard_normal((60, 384))), load_embedder().identity)


def settings(folder: Path, index: str) -> Settings:
    return Settings(history=folder, index=index)  # type: ignore[arg-type]


def test_a_saved_graph_is_loaded_and_not_built_again(
    history: EmbeddedHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history.save(tmp_path / "without")
    history.save(tmp_path / "with", NeighbourIndex(history.embeddings, "hnsw"))
    with capture_logs() as logs:
        built = load_estimating(settings(tmp_path / "without", "hnsw"), CATALOGUE)

        def not_again(*arguments: object) -> None:
            raise AssertionError("a graph is built")

        monkeypatch.setattr(NeighbourIndex, "__init__", not_again)
        loaded = load_estimating(settings(tmp_path / "with", "hnsw"), CATALOGUE)

    ready = [entry["saved"] for entry in logs if entry["event"] == "graph_ready"]
    assert ready == [False, True]
    queries = history.batch(slice(0, 9))
    assert np.array_equal(
        built.estimator.estimate(queries).quality, loaded.estimator.estimate(queries).quality
    )


def test_an_exact_search_has_no_use_for_a_saved_graph(history: EmbeddedHistory, tmp_path: Path):
    history.save(tmp_path, NeighbourIndex(history.embeddings, "hnsw"))

    assert load_known(settings(tmp_path, "exact")).graph is None


def test_a_saved_graph_that_was_changed_is_refused_at_the_start(history: EmbeddedHistory, tmp_path: Path):
    history.save(tmp_path, NeighbourIndex(history.embeddings, "hnsw"))
    (path,) = tmp_path.glob("index-*.faiss")
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(HistoryError, match="digest"):
        load_known(settings(tmp_path, "hnsw"))
