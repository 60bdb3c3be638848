import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from routing.datasets.demo import load_demo
from routing.embedding.embedder import SentenceTransformerEmbedder, load_embedder
from routing.embedding.model_files import EmbedderError
from routing.history.history import EmbeddedHistory
from routing.history.rules import HistoryError

TEXTS = [
    "How many moons has Mars?",
    "half \ud800 a pair",
    "def f(x):\n    return x",
    "那是什么？",
    "the end " * 400,
]


@pytest.fixture(scope="module")
def minilm():
    return load_embedder(threads=1)


@pytest.fixture(scope="module")
def static_folder(tmp_path_factory):
    """Save a static table of sentence-transformers with random vectors for a small vocabulary."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(["[UNK]", "how", "many", "moons", "has", "mars"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(words), 7)).astype(np.float32)
    folder = tmp_path_factory.mktemp("static") / "table"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save(str(folder))
    return folder


def test_embed_returns_float32_unit_vectors_in_order(minilm):
    batch = minilm.embed(TEXTS)
    assert batch.prompts == TEXTS
    assert batch.embeddings.dtype == np.float32
    assert batch.embeddings.shape == (len(TEXTS), minilm.dimension) == (5, 384)
    assert np.linalg.norm(batch.embeddings, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert np.linalg.matrix_rank(batch.embeddings @ batch.embeddings.T) == 5


def test_embed_vector_does_not_depend_on_its_batch(minilm):
    together = minilm.embed(TEXTS).embeddings
    for i, text in enumerate(TEXTS):
        assert np.abs(minilm.embed([text]).embeddings[0] - together[i]).max() < 1e-6


def test_embed_reproduces_the_demo_vectors(minilm):
    history, _ = load_demo()
    again = minilm.embed([history.history.texts[i] for i in (0, 1, 2, 3)]).embeddings
    assert (again * history.embeddings[:4]).sum(1) == pytest.approx(np.ones(4), abs=2e-4)


def test_embed_cuts_texts_at_the_token_limit():
    short = load_embedder(max_tokens=8, threads=1)
    ends = short.embed(
        ["one two three four five six seven eight nine ten", "one two three four five six and more"]
    )
    assert np.array_equal(ends.embeddings[0], ends.embeddings[1])
    assert short.identity != load_embedder().identity


def test_load_history_with_another_token_limit_raises(minilm, tmp_path):
    history, _ = load_demo()
    history.select(np.arange(3)).save(tmp_path)
    EmbeddedHistory.load(tmp_path, embedder=minilm.identity)
    with pytest.raises(HistoryError, match="token limit"):
        EmbeddedHistory.load(tmp_path, embedder=load_embedder(max_tokens=64).identity)


def test_load_embedder_static_model_has_the_same_interface(static_folder):
    embedder = load_embedder(static_folder)
    batch = embedder.embed(["how many moons", "how many moons", "mars"])
    assert batch.embeddings.shape == (3, embedder.dimension) == (3, 7)
    assert np.array_equal(batch.embeddings[0], batch.embeddings[1])
    assert np.linalg.norm(batch.embeddings, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_embed_without_texts_returns_no_vectors(static_folder):
    assert load_embedder(static_folder).embed([]).embeddings.shape == (0, 7)


def test_load_embedder_folder_without_model_is_named(tmp_path):
    with pytest.raises(EmbedderError, match=r"neither modules\.json nor config\.json"):
        SentenceTransformerEmbedder(tmp_path)


def test_import_and_identity_do_not_load_torch():
    code = (
        "import sys, routing.embedding.embedder as e, routing.datasets, routing.estimators.neighbours;"
        "e.load_embedder().identity; sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
