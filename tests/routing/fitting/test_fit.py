"""Presets: their choice by the history's size, their fits, and loading of saved fits."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from routing.__main__ import RemainingTime, main, measure_embedding, measured_rate, probes
from routing.embedding.bytes_embedder import BytesEmbedder, fit_bytes, vocabulary_size
from routing.embedding.query_batch import QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.estimators.ridge import RidgeEstimator
from routing.estimators.ridge_settings import EXACT_ROWS, FAST_LANDMARKS
from routing.fitting.effort import plan_fit
from routing.fitting.fit import fit
from routing.fitting.presets import (
    BYTES_ROWS,
    MIN_MEASURED_ROWS,
    choose_preset,
    short_history,
)
from routing.fitting.saved_fit import FitFacts, fit_facts, load_fitted, save_fitted
from routing.history.history import EmbeddedHistory, History
from routing.history.rules import HistoryError
from tests.tiny_bert import make_small_bert

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


def test_choose_preset_default_depends_on_the_history():
    assert choose_preset(BYTES_ROWS)[0].name == "fast"
    few, reason = choose_preset(BYTES_ROWS - 1)
    assert few.name == "static"
    assert str(BYTES_ROWS - 1) in reason
    with pytest.raises(ValueError, match="static"):
        choose_preset(10, "fast")
    with pytest.raises(ValueError, match="preset"):
        choose_preset(10, "better")


@pytest.mark.parametrize(
    ("rows", "name", "landmarks", "message"),
    [
        (EXACT_ROWS, "best", None, "exact kernel"),
        (EXACT_ROWS + 1, "best", FAST_LANDMARKS, "landmarks"),
        (50_000, "fast", FAST_LANDMARKS, "landmarks"),
        (2_000, "fast", None, "exact kernel"),
    ],
)
def test_choose_preset_kernel_depends_on_size_with_a_reason(rows, name, landmarks, message):
    preset, reason = choose_preset(rows, name)
    assert preset.estimator.landmarks == landmarks
    assert message in reason


def test_plan_fit_larger_fit_needs_more():
    small, large = (plan_fit(rows, 5, choose_preset(rows, "best")[0], True) for rows in (2_000, 10_000))
    assert large.operations > 30 * small.operations
    assert large.memory > 3 * small.memory
    assert small.embed == 0
    assert plan_fit(500, 5, choose_preset(500, "best")[0], False).embed == 500


def test_vocabulary_size_equals_the_fitted_table():
    history, vectors = history_and_vectors()
    words = vocabulary_size(history.texts)
    assert words == len(fit_bytes(history.texts, vectors).table)
    best = choose_preset(len(history), "best")[0]
    few, many = (plan_fit(1_200, 2, best, True, size) for size in (words, 3_600))
    without = plan_fit(1_200, 2, replace(best, estimator=replace(best.estimator, words=0)), True)
    assert without.operations < few.operations < many.operations
    assert plan_fit(1_200, 2, best, True) == many
    # A history that is too short for words has no table.
    short = choose_preset(500, "best")[0]
    assert plan_fit(500, 2, short, True).operations == plan_fit(500, 2, short, True, 10).operations


def test_fit_uses_a_loaded_model():
    class Loaded:
        identity, dimension = "loaded", 24

    history, vectors = history_and_vectors(n=60)
    preset = choose_preset(60, "paper")[0]
    loaded = Loaded()
    assert fit(history, preset, embeddings=vectors, loaded=loaded).embedder is loaded


@pytest.mark.parametrize("name", ["paper", "best", "fast"])
def test_load_fitted_returns_the_saved_fit(name, tmp_path):
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


def test_load_fitted_parts_of_two_fits_raise(tmp_path):
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


def test_fast_preset_is_accurate_on_new_prompts():
    history, vectors = history_and_vectors()
    fitted = fit(history, choose_preset(len(history), "fast")[0], embeddings=vectors)
    new, _ = history_and_vectors(200, seed=7)
    estimates = fitted.estimator.estimate(fitted.embedder.embed(new.prompts))
    assert np.abs(estimates.quality - new.quality).mean() < 0.08
    assert measured_rate(fitted) > 0


def test_command_fits_saves_and_logs(tmp_path, capsys):
    history, vectors = history_and_vectors()
    EmbeddedHistory(history, vectors, "made").save(tmp_path / "data")
    np.save(tmp_path / "vectors.npy", vectors)
    arguments = ["fit", "--dataset", str(tmp_path / "data"), "--embeddings", str(tmp_path / "vectors.npy")]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--preset", "fast"]) == 0
    assert json.loads((tmp_path / "out" / "fit.json").read_text())["queries_per_second"] > 0
    assert load_fitted(tmp_path / "out").estimator.models == ("small", "large")
    np.save(tmp_path / "vectors.npy", vectors[:5])
    assert main([*arguments, "--out", str(tmp_path / "out2")]) == 2
    assert "embeddings" in capsys.readouterr().err


# --- forecasts ----------------------------------------------------------------------------------------------


class ClockedEmbedder:
    """Advances a clock by the time of a model: for loading, for each call and for each text."""

    identity, dimension = "clocked", 4

    def __init__(self, monkeypatch, of_a_text):
        self.now, self._of_a_text, self._called = 0.0, of_a_text, False
        monkeypatch.setattr("routing.__main__.time.perf_counter", self.read)

    def read(self):
        self.now += 1e-6
        return self.now

    def embed(self, texts):
        if not self._called:
            self.now += 20.0  # loading
        self._called = True
        self.now += 0.004 + sum(map(self._of_a_text, texts))
        return QueryBatch(texts, np.ones((len(texts), 4), np.float32) / 2)


def uneven_texts(n=2000):
    rng = np.random.default_rng(3)
    return ["x" * int(length) for length in np.exp(rng.normal(4, 1.2, n)).clip(1, 5000)]


def test_forecast_measures_the_historys_texts(monkeypatch):
    texts = uneven_texts()
    embedder = ClockedEmbedder(monkeypatch, lambda text: 1e-2 + 2e-4 * len(text))
    loading, each = measure_embedding(embedder, probes(texts))
    assert loading >= 20.0
    # A few calls only: the measurement delays the work.
    assert embedder.now < 20.0 + 10.0
    begun = embedder.now
    history = History(
        [str(i) for i in range(len(texts))],
        texts,
        ["t"] * len(texts),
        ["m"],
        np.ones((len(texts), 1)),
        np.ones((len(texts), 1)),
    )
    remaining, reports = RemainingTime(begun, 7.0), []

    def counted(done, of):
        seconds = remaining.after(done, of, embedder.now)
        if seconds is not None:
            reports.append((embedder.now, seconds))

    fit(history, choose_preset(len(texts), "paper")[0], loaded=embedder, on_progress=counted)
    took = embedder.now - begun
    assert each * len(texts) == pytest.approx(took, rel=0.35)
    assert reports
    for now, seconds in reports:
        assert seconds - 7.0 == pytest.approx(begun + took - now, rel=0.35, abs=5.0)


def test_forecast_of_a_static_table_measures_many_tokens(monkeypatch, tmp_path, capsys):
    embedders = []

    def load(model, *args, batch_size=32, **more):
        # A call costs more than its words, as with a small model.
        embedders.append(ClockedEmbedder(monkeypatch, lambda text: 1e-5))
        return embedders[-1]

    make_small_bert(tmp_path)
    monkeypatch.setattr("routing.__main__.load_embedder", load)
    monkeypatch.setattr("routing.__main__.tokenizer_size", lambda model: 30_522)
    history, _ = history_and_vectors(n=100)
    EmbeddedHistory(history, np.eye(100, dtype=np.float32), "made").save(tmp_path / "data")
    assert (
        main(
            [
                "fit",
                "--dataset",
                str(tmp_path / "data"),
                "--model",
                str(tmp_path),
                "--preset",
                "static",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    message = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    # 20 s for loading, and 30 calls of 1,024 words of 14 ms each.
    seconds = int(re.search(r"fit_expected.*seconds=(\d+)", message)[1])
    assert seconds == pytest.approx(20.4, abs=1.5)
    assert re.search(r"history_short.* 100 rows, too few .* 250 or more", message)


def test_short_history_names_a_sufficient_length():
    assert short_history(MIN_MEASURED_ROWS) is None
    assert "has 4 rows, too few" in short_history(4)
    assert f"give {MIN_MEASURED_ROWS} or more" in short_history(4)


def test_command_with_gaps_names_the_option_that_drops_them(tmp_path, capsys):
    history, vectors = history_and_vectors()
    table = pd.DataFrame({"sample_id": history.ids, "prompt": history.prompts, "eval_name": history.tasks})
    for column, name in enumerate(history.models):
        table[name], table[f"{name}|total_cost"] = history.quality[:, column], history.cost[:, column]
    table.loc[7, "small"] = None
    table.to_csv(tmp_path / "data.csv", index=False)
    np.save(tmp_path / "vectors.npy", np.delete(vectors, 7, axis=0))
    command = ["fit", "--dataset", str(tmp_path / "data.csv"), "--embeddings", str(tmp_path / "vectors.npy")]
    command += ["--out", str(tmp_path / "out"), "--preset", "fast"]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "row 9" in message  # the header is row 1
    assert "--incomplete drop" in message
    assert main([*command, "--incomplete", "drop"]) == 0
    assert len(load_fitted(tmp_path / "out").history) == 1199


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY\x01\x00v\x00", b"text", b"PK\x03\x04"])
def test_command_unreadable_embeddings_are_named(tmp_path, data, capsys):
    history, vectors = history_and_vectors(n=300)
    EmbeddedHistory(history, vectors, "made").save(tmp_path / "data")
    (tmp_path / "vectors.npy").write_bytes(data)
    command = ["fit", "--dataset", str(tmp_path / "data"), "--embeddings", str(tmp_path / "vectors.npy")]
    assert main([*command, "--out", str(tmp_path / "out"), "--preset", "paper"]) == 2
    assert f"embeddings: {tmp_path / 'vectors.npy'} is not readable" in capsys.readouterr().err
