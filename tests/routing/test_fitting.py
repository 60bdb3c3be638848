"""Presets: which is taken when, and that what is fitted is loaded again as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from routing.__main__ import main, measured_rate
from routing.bytes_embedder import BytesEmbedder, fit_bytes, vocabulary_size
from routing.estimators.neighbours import Neighbours
from routing.estimators.ridge import RidgeEstimator
from routing.fitting import FitFacts, fit, fit_facts, load_fitted, plan_fit, save_fitted
from routing.history import EmbeddedHistory, History, HistoryError
from routing.presets import BYTES_ROWS, EXACT_ROWS, FAST_LANDMARKS, choose_preset

TOPICS = ("cell protein gene tissue", "derivative integral matrix vector", "treaty senate law court")


def history_and_vectors(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    topic = rng.integers(3, size=n)
    prompts = [" ".join(rng.choice(TOPICS[t].split(), 8)) + f" {i}?" for i, t in enumerate(topic)]
    axes = np.eye(24)[topic] + rng.normal(0, 0.1, (n, 24))
    quality = np.clip(
        np.array([[0.2, 0.9], [0.8, 0.9], [0.5, 0.5]])[topic] + rng.normal(0, 0.05, (n, 2)), 0, 1
    )
    cost = np.array([[1e-5, 1e-4]]) * rng.uniform(0.9, 1.1, (n, 2))
    history = History([f"q{i}" for i in range(n)], prompts, ["t"] * n, ["small", "large"], quality, cost)
    return history, (axes / np.linalg.norm(axes, axis=1, keepdims=True)).astype(np.float32)


def test_the_default_is_what_the_history_allows():
    assert choose_preset(BYTES_ROWS)[0].name == "fast"
    few, reason = choose_preset(BYTES_ROWS - 1)
    assert few.name == "static"
    assert str(BYTES_ROWS - 1) in reason
    with pytest.raises(ValueError, match="static"):
        choose_preset(10, "fast")
    with pytest.raises(ValueError, match="preset"):
        choose_preset(10, "better")


@pytest.mark.parametrize(
    ("rows", "name", "landmarks", "said"),
    [
        (EXACT_ROWS, "best", None, "exact kernel"),
        (EXACT_ROWS + 1, "best", FAST_LANDMARKS, "landmarks"),
        (50_000, "fast", FAST_LANDMARKS, "landmarks"),
        (2_000, "fast", None, "exact kernel"),
    ],
)
def test_exact_or_landmarks_by_size_with_the_reason(rows, name, landmarks, said):
    preset, reason = choose_preset(rows, name)
    assert preset.ridge.landmarks == landmarks
    assert said in reason


def test_a_larger_fit_is_told_to_take_more():
    small, large = (plan_fit(rows, 5, choose_preset(rows, "best")[0], True) for rows in (2_000, 10_000))
    assert large.operations > 30 * small.operations
    assert large.memory > 3 * small.memory
    assert small.embed == 0
    assert plan_fit(500, 5, choose_preset(500, "best")[0], False).embed == 500


def test_the_words_of_a_table_are_counted_before_it_is_fitted():
    history, vectors = history_and_vectors()
    words = vocabulary_size(history.texts)
    assert words == len(fit_bytes(history.texts, vectors).table)
    best = choose_preset(len(history), "best")[0]
    few, many = (plan_fit(1_200, 2, best, True, size) for size in (words, 3_600))
    without = plan_fit(1_200, 2, replace(best, ridge=replace(best.ridge, words=0)), True)
    assert without.operations < few.operations < many.operations
    assert plan_fit(1_200, 2, best, True) == many
    # below the shortest history for words there is no table
    short = choose_preset(500, "best")[0]
    assert plan_fit(500, 2, short, True).operations == plan_fit(500, 2, short, True, 10).operations


def test_a_model_that_is_loaded_already_is_taken():
    class Loaded:
        identity, dimension = "loaded", 24

    history, vectors = history_and_vectors(n=60)
    preset = choose_preset(60, "paper")[0]
    loaded = Loaded()
    assert fit(history, preset, embeddings=vectors, loaded=loaded).embedder is loaded


@pytest.mark.parametrize("name", ["paper", "best", "fast"])
def test_what_is_fitted_is_loaded_as_it_was(name, tmp_path):
    history, vectors = history_and_vectors()
    preset, reason = choose_preset(len(history), name)
    fitted = fit(history, preset, embeddings=vectors)
    facts = FitFacts(name, reason, fitted.history.digest(), queries_per_second=1.0)
    save_fitted(tmp_path, fitted, facts)
    embedder, estimator, embedded = load_fitted(tmp_path)
    assert fit_facts(tmp_path) == facts
    assert isinstance(estimator, Neighbours if name == "paper" else RidgeEstimator)
    assert isinstance(embedder, BytesEmbedder) == (name == "fast")
    assert embedder.identity == fitted.embedder.identity
    assert embedded.digest() == fitted.history.digest()
    batch = fitted.history.batch(slice(0, 50))
    np.testing.assert_allclose(estimator.estimate(batch).quality, fitted.estimator.estimate(batch).quality)


def test_parts_of_two_fits_are_refused(tmp_path):
    history, vectors = history_and_vectors()
    preset, reason = choose_preset(len(history), "fast")
    fitted = fit(history, preset, embeddings=vectors)
    save_fitted(tmp_path, fitted, FitFacts("fast", reason, fitted.history.digest()))
    other, other_vectors = history_and_vectors(seed=1)
    EmbeddedHistory(other, other_vectors, fitted.embedder.identity).save(tmp_path)
    with pytest.raises(HistoryError, match="fit"):
        load_fitted(tmp_path)
    with pytest.raises(FileNotFoundError, match="fit"):
        load_fitted(tmp_path / "nothing")


def test_fast_is_good_on_new_prompts():
    history, vectors = history_and_vectors()
    fitted = fit(history, choose_preset(len(history), "fast")[0], embeddings=vectors)
    new, _ = history_and_vectors(200, seed=7)
    found = fitted.estimator.estimate(fitted.embedder.embed(new.prompts))
    assert np.abs(found.quality - new.quality).mean() < 0.08
    assert measured_rate(fitted) > 0


def test_the_command_fits_saves_and_tells(tmp_path, capsys):
    history, vectors = history_and_vectors()
    EmbeddedHistory(history, vectors, "made").save(tmp_path / "data")
    np.save(tmp_path / "vectors.npy", vectors)
    told = ["fit", "--dataset", str(tmp_path / "data"), "--embeddings", str(tmp_path / "vectors.npy")]
    assert main([*told, "--out", str(tmp_path / "out"), "--preset", "fast"]) == 0
    assert json.loads((tmp_path / "out" / "fit.json").read_text())["queries_per_second"] > 0
    assert load_fitted(tmp_path / "out").estimator.models == ("small", "large")
    np.save(tmp_path / "vectors.npy", vectors[:5])
    assert main([*told, "--out", str(tmp_path / "out2")]) == 2
    assert "embeddings" in capsys.readouterr().err
