"""The bytes embedder: its accuracy, and rows that depend on their own text only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.embedding.bytes_embedder import BytesEmbedder, fit_bytes
from routing.embedding.text_features import text_features

TOPICS = ("cell protein gene tissue", "derivative integral matrix vector", "treaty senate law court")


def texts_and_vectors(n=300, seed=0):
    rng = np.random.default_rng(seed)
    topic = rng.integers(3, size=n)
    texts = [" ".join(rng.choice(TOPICS[t].split(), 6)) + f" {rng.integers(100)}?" for t in topic]
    axes = np.linalg.qr(rng.normal(size=(16, 16)))[0][:3]
    noisy = axes[topic] + rng.normal(0, 0.02, (n, 16))
    return texts, (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32), topic


@pytest.fixture(scope="module")
def embedder():
    texts, vectors, _ = texts_and_vectors()
    return fit_bytes(texts, vectors, dimension=8)


def test_embed_new_texts_are_near_the_slow_models_vectors(embedder):
    texts, _, topic = texts_and_vectors(60, seed=1)
    rows = embedder.embed(texts).embeddings
    alike = rows @ rows.T
    same = topic[:, None] == topic
    assert alike[same].min() > alike[~same].max()


def test_embed_rows_are_unit_vectors_with_text_features(embedder):
    texts = ["gene 12", "", "unknown words only", "matrix\0vector"]
    batch = embedder.embed(texts)
    assert batch.embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(batch.embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(batch.counts, text_features(texts))


@settings(max_examples=40)
@given(st.lists(st.text(max_size=40), min_size=2, max_size=10))
def test_embed_row_does_not_depend_on_its_batch(embedder, texts):
    together = embedder.embed(texts).embeddings
    alone = np.vstack([embedder.embed([text]).embeddings for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_load_returns_the_saved_embedder(embedder, tmp_path):
    embedder.save(tmp_path)
    again = BytesEmbedder.load(tmp_path)
    assert again.identity == embedder.identity
    np.testing.assert_array_equal(again.embed(["a gene"]).embeddings, embedder.embed(["a gene"]).embeddings)


def test_identity_differs_between_fits(embedder):
    texts, vectors, _ = texts_and_vectors(seed=3)
    assert fit_bytes(texts, vectors, dimension=8).identity != embedder.identity


def test_fit_bytes_invalid_input_names_the_field(tmp_path):
    with pytest.raises(ValueError, match="embeddings"):
        fit_bytes(["a", "b"], np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match="static"):
        fit_bytes(["a", "b"], np.ones((2, 4), np.float32))
    with pytest.raises(FileNotFoundError, match="fit"):
        BytesEmbedder.load(tmp_path)
