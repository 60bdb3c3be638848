import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from routing.history.history import EmbeddedHistory, History
from routing.history.nearest import NeighbourIndex
from routing.history.rules import HistoryError


def a_history(rows=4, models=("small", "large"), **changes):
    fields = {
        "ids": [f"q{i}" for i in range(rows)],
        "prompts": [f"question {i}?" for i in range(rows)],
        "tasks": ["sums"] * rows,
        "models": list(models),
        "quality": np.arange(rows * len(models)).reshape(rows, -1) % 2,
        "cost": np.full((rows, len(models)), 1e-5),
    }
    return History(**(fields | changes))


def embedded(history, seed=0, d=8, embedder="a-model"):
    vectors = np.random.default_rng(seed).standard_normal((len(history), d))
    return EmbeddedHistory(history, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), embedder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"quality": [[0, 1], [1, np.nan], [0, 0], [1, 1]]},
            ["quality", "row 2", "'q1'", "'large'", "nan", "correct"],
        ),
        ({"quality": [[0, 1], [1, 0], [0, 1.2], [1, 1]]}, ["quality", "row 3", "'large'", "1.2", "[0, 1]"]),
        ({"quality": [[0, 1], [1, 0], [-0.1, 1], [1, 1]]}, ["quality", "row 3", "'small'", "-0.1"]),
        ({"cost": [[1, 1], [1, 1], [1, 1], [1, -2]]}, ["cost", "row 4", "'large'", "-2", "USD"]),
        ({"cost": [[1, 1], [np.inf, 1], [1, 1], [1, 2]]}, ["cost", "row 2", "inf"]),
        ({"cost": [["cheap", 1]] * 4}, ["cost", "cheap", "numbers"]),
        ({"cost": [[1, 1]]}, ["cost", "shape (1, 2)", "[4, 2]"]),
        ({"ids": ["a", "b", "a", "c"]}, ["ids", "'a'", "row 1 and row 3", "drop"]),
        ({"ids": ["a", "b", 3, "c"]}, ["ids", "row 3", "3", "string"]),
        ({"prompts": ["a", "b", "c", "d\ud800"]}, ["prompts", "row 4", "character 1", "replace"]),
        ({"models": ["m", "m"]}, ["models", "'m'", "duplicate", "column 1 and column 2"]),
        ({"models": ["prompt", "m"]}, ["models", "'prompt'"]),
        ({"models": ["m", "m|total_cost"]}, ["models", "'m|total_cost'"]),
        ({"prompts": ["only one"]}, ["prompts", "1 for 4"]),
        ({"embed_texts": ["only one"]}, ["embed_texts", "1 for 4"]),
        (
            {"ids": [], "prompts": [], "tasks": [], "quality": np.zeros((0, 2)), "cost": np.zeros((0, 2))},
            ["no rows"],
        ),
    ],
)
def test_history_invalid_names_field_row_value_and_fix(changes, words):
    with pytest.raises(HistoryError) as error:
        a_history(**changes)
    for word in words:
        assert word in str(error.value)


def test_select_and_with_models_keep_rows_and_columns_together():
    history = a_history(5, ("a", "b", "c"), cost=np.arange(15.0).reshape(5, 3), embed_texts=list("vwxyz"))
    part = history.select([3, 0]).with_models(["c", "unknown", "a"])
    assert part.ids == ("q3", "q0")
    assert part.texts == ("y", "v")
    assert part.models == ("c", "a")
    assert part.cost.tolist() == [[11, 9], [2, 0]]
    assert history.select(np.array([False, True, False, False, True])).ids == ("q1", "q4")


def test_with_models_without_common_llm_names_both_sides():
    with pytest.raises(HistoryError, match=r"no LLM in common with 'gpt'.*'small', 'large'"):
        a_history().with_models(["gpt"])


def test_history_arrays_are_read_only():
    quality = np.zeros((4, 2))
    history = a_history(quality=quality)
    digest = history.digest()
    quality[0, 0] = 1
    assert history.digest() == digest == a_history(quality=np.zeros((4, 2))).digest()
    with pytest.raises(ValueError, match="read-only"):
        history.quality[0, 0] = 1


@pytest.mark.parametrize(
    "changes",
    [
        {"quality": np.zeros((4, 2))},
        {"cost": np.full((4, 2), 2e-5)},
        {"prompts": ["a", "b", "c", "d"]},
        {"ids": ["a", "b", "c", "d"]},
        {"tasks": ["other"] * 4},
        {"models": ["large", "small"]},
        {"embed_texts": [f"question {i}?" for i in range(4)]},
    ],
)
def test_digest_depends_on_every_field(changes):
    assert a_history(**changes).digest() != a_history().digest()


def test_digest_distinguishes_texts_with_equal_concatenation():
    assert (
        a_history(prompts=["ab", "c", "d", "e"]).digest() != a_history(prompts=["a", "bc", "d", "e"]).digest()
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=20)
@given(data=st.data(), rows=st.integers(1, 6), models=st.integers(1, 4), with_texts=st.booleans())
def test_load_returns_the_saved_history(tmp_path_factory, data, rows, models, with_texts):
    some = st.lists(texts, min_size=rows, max_size=rows)
    numbers = st_np.arrays(np.float64, (rows, models), elements=st.floats(0, 1))
    history = a_history(
        rows,
        [f"llm/{i}" for i in range(models)],
        prompts=data.draw(some),
        tasks=data.draw(some),
        quality=data.draw(numbers),
        cost=data.draw(numbers),
        embed_texts=data.draw(some) if with_texts else None,
    )
    saved = embedded(history, seed=rows)
    folder = tmp_path_factory.mktemp("history")
    saved.save(folder)
    loaded = EmbeddedHistory.load(folder, embedder="a-model")
    assert loaded.digest() == saved.digest()
    assert loaded.history.prompts == history.prompts
    assert np.array_equal(loaded.history.cost, history.cost)
    assert np.array_equal(loaded.embeddings, saved.embeddings)


def test_load_with_another_embedder_raises(tmp_path):
    embedded(a_history()).save(tmp_path)
    with pytest.raises(
        HistoryError, match=r"embedded by 'a-model', queries by 'another'.*embed the history again"
    ):
        EmbeddedHistory.load(tmp_path, embedder="another")


def test_save_again_replaces_the_old_and_keeps_other_files(tmp_path):
    embedded(a_history(), seed=0).save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    second = embedded(a_history(), seed=1)
    second.save(tmp_path)
    assert EmbeddedHistory.load(tmp_path).digest() == second.digest()
    assert len(list(tmp_path.glob("embeddings-*"))) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["history-*.json.gz", "cost-*.npy", "embeddings-*.npy", "index-*.faiss"])
def test_load_changed_file_raises(tmp_path, kind):
    saved = embedded(a_history(20))
    saved.save(tmp_path, NeighbourIndex(saved.embeddings, "hnsw"))
    (path,) = tmp_path.glob(kind)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(HistoryError, match="digest"):
        EmbeddedHistory.load(tmp_path).load_index(tmp_path)


def test_load_manifest_with_another_digest_raises(tmp_path):
    embedded(a_history()).save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["facts"]["digest"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(HistoryError, match="digest: the manifest says 0000"):
        EmbeddedHistory.load(tmp_path)


def test_load_index_returns_the_saved_index(tmp_path):
    saved = embedded(a_history(50))
    index = NeighbourIndex(saved.embeddings, "hnsw")
    saved.save(tmp_path, index)
    loaded = EmbeddedHistory.load(tmp_path).load_index(tmp_path)
    assert loaded.kind == "hnsw"
    for ours, theirs in zip(
        loaded.search(saved.embeddings, 3), index.search(saved.embeddings, 3), strict=True
    ):
        assert np.array_equal(ours, theirs)
    saved.save(tmp_path)
    assert saved.load_index(tmp_path) is None
    with pytest.raises(HistoryError, match="other embeddings"):
        embedded(a_history(50), seed=1).save(tmp_path, index)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones((4, 3)), ["row 1", "'q0'", "length 1.73", "normalise"]),
        (np.full((4, 3), np.nan), ["row 1", "nan"]),
        (np.eye(3), ["shape (3, 3)", "4 rows"]),
    ],
)
def test_embedded_history_needs_one_unit_vector_per_row(vectors, words):
    with pytest.raises(HistoryError) as error:
        EmbeddedHistory(a_history(), vectors, "a-model")
    for word in words:
        assert word in str(error.value)


def test_embedded_history_select_keeps_vectors_with_rows():
    history = embedded(a_history(6))
    part = history.select([4, 1]).with_models(["large"])
    assert np.array_equal(part.embeddings, history.embeddings[[4, 1]])
    assert part.models == ("large",)
    batch = history.batch([4, 1])
    assert batch.prompts == ["question 4?", "question 1?"]
    assert np.array_equal(batch.embeddings, part.embeddings)


def test_load_format_of_an_earlier_version_is_refused(tmp_path):
    embedded(a_history()).save(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(HistoryError, match=r"format: 1 is not 2; make the folder again"):
        EmbeddedHistory.load(tmp_path)
