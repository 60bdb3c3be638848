"""The static embedder: model2vec's format and pooling, distilled from a small transformer."""

from __future__ import annotations

import numpy as np
import pytest

from routing.embedding.embedder import load_embedder
from routing.embedding.model_files import EmbedderError
from routing.embedding.static_embedder import StaticEmbedder, distil_static
from tests.tiny_bert import make_small_bert


@pytest.fixture(scope="module")
def small_bert(tmp_path_factory):
    return make_small_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def embedder(small_bert, tmp_path_factory):
    return distil_static(small_bert, tmp_path_factory.mktemp("table"))


def test_embed_returns_the_unit_mean_of_token_vectors(embedder):
    rows = embedder.embed(["cell gene", "cell", "gene", ""]).embeddings
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert rows[0] @ rows[1] > rows[2] @ rows[1] - 1e-6
    np.testing.assert_allclose(rows[3], np.eye(16)[0])


def test_embed_row_does_not_depend_on_its_batch(embedder):
    texts = ["cell gene law", "court ?", "a a a unknown"]
    together = embedder.embed(texts).embeddings
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(embedder.embed([text]).embeddings[0], row, atol=1e-7)


def test_model2vec_reads_the_same_table(embedder):
    model2vec = pytest.importorskip("model2vec", reason="model2vec is not installed")
    theirs = model2vec.StaticModel.from_pretrained(embedder.folder).encode(["cell gene law"])
    ours = embedder.embed(["cell gene law"]).embeddings
    np.testing.assert_allclose(theirs / np.linalg.norm(theirs), ours, atol=2e-3)


def test_load_embedder_detects_a_static_table_by_its_files(embedder, small_bert, tmp_path):
    again = load_embedder(embedder.folder)
    assert isinstance(again, StaticEmbedder)
    assert again.identity == embedder.identity
    assert distil_static(small_bert, tmp_path, dimension=8).identity != embedder.identity
    assert StaticEmbedder(tmp_path).dimension == 8


def test_load_folder_without_table_raises(tmp_path):
    with pytest.raises(EmbedderError, match=r"model\.safetensors"):
        StaticEmbedder(tmp_path)
