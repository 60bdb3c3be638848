"""The ridge estimator and its parts against definitions: refits, batches, save and load."""

from __future__ import annotations

import numpy as np
import pytest

from routing.embedding.query_batch import QueryBatch
from routing.estimators.cost_mix import PARTS, TextCost
from routing.estimators.cross_model import fit_across
from routing.estimators.features import FormFeatures
from routing.estimators.kernel import KernelMachine, fit_exact, kernel
from routing.estimators.landmarks import choose_landmarks, fit_landmarks
from routing.estimators.ridge import RidgeEstimator, fit_ridge
from routing.estimators.ridge_settings import RidgeSettings
from routing.history.history import EmbeddedHistory, History
from routing.history.rules import HistoryError

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


def made(n=160, models=3, d=12, seed=0):
    """Make a history: quality follows the first axes of the embedding, cost follows the length."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    prompts = [" ".join(rng.choice(WORDS, rng.integers(4, 60))) + "?" for _ in range(n)]
    quality = np.clip(0.5 + vectors[:, :models] + rng.normal(0, 0.05, (n, models)), 0, 1)
    length = np.array([[len(p)] for p in prompts])
    cost = length * np.array([1e-7, 5e-7, 3e-6])[:models] * rng.uniform(0.9, 1.1, (n, models))
    ids = [f"q{i}" for i in range(n)]
    history = History(ids, prompts, ["t"] * n, [f"m{i}" for i in range(models)], quality, cost)
    return EmbeddedHistory(history, vectors, "made")


def test_kernel_equals_its_definition_for_coinciding_rows():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, 9)).astype(np.float32)
    b = np.vstack([a[:10], a[:10] + np.float32(1e-4), rng.normal(size=(30, 9))]).astype(np.float32)
    apart = np.linalg.norm(a[:, None].astype(float) - b[None], axis=2)
    np.testing.assert_allclose(kernel(a, b, 1.5), np.exp(-1.5 * apart), atol=2e-6)


def test_fit_exact_leave_one_out_equals_a_refit_without_the_row():
    history = made(60)
    rows, targets = history.embeddings, history.history.quality
    _, own = fit_exact(rows, targets, 1.0, 0.5)
    # The closed form keeps the mean of all rows, so the refit must too.
    for j in (0, 17, 59):
        rest = np.delete(np.arange(60), j)
        gram = kernel(rows[rest], rows[rest], 1.0).astype(float) + 0.5 * np.eye(59)
        weights = np.linalg.solve(gram, targets[rest] - targets.mean(0))
        refit = kernel(rows[j : j + 1], rows[rest], 1.0) @ weights + targets.mean(0)
        np.testing.assert_allclose(own[j], refit[0], atol=2e-4)


def test_fit_landmarks_on_every_row_equals_the_exact_kernel():
    history = made(80)
    rows, targets = history.embeddings, history.history.quality
    exact, own = fit_exact(rows, targets, 1.0, 1.0)
    marks, own_marks = fit_landmarks(rows, targets, 1.0, 1.0, rows)
    new = made(20, seed=5).embeddings
    np.testing.assert_allclose(marks.predict(new), exact.predict(new), atol=5e-3)
    np.testing.assert_allclose(own_marks, own, atol=2e-2)


def test_choose_landmarks_returns_distinct_rows():
    rows = np.repeat(np.eye(4, dtype=np.float32), 30, axis=0)
    assert len(choose_landmarks(rows, 10)) == 4


def test_predict_does_not_depend_on_the_batch():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(2500, 40)).astype(np.float32) / 6
    machine = KernelMachine(points, rng.normal(size=(2500, 6)).astype(np.float32) / 50, np.zeros(6), 1.0)
    rows = np.vstack([rng.normal(size=(280, 40)).astype(np.float32) / 6, points[:20]])
    together = machine.predict(rows)
    alone = np.vstack([machine.predict(row[None]) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_fit_across_leave_one_out_equals_a_refit_without_the_row():
    rng = np.random.default_rng(2)
    first = rng.random((50, 3))
    truth = np.clip(first @ rng.random((3, 3)) * 0.7 + rng.normal(0, 0.05, (50, 3)), 0, 1)
    across, own = fit_across(first, truth, 0.1)
    assert ((across.correct(first) - truth) ** 2).mean() < ((first - truth) ** 2).mean()
    # Centre, ridge and mean residual are those of all rows; everything else is refitted without the row.
    centre, x = first.mean(axis=0), first - first.mean(axis=0)
    residual = truth - first
    mean, lam = residual.mean(axis=0), 0.1 * np.trace(x.T @ x) / 3
    for row in range(0, 50, 7):
        rest = np.delete(np.arange(50), row)
        gram = x[rest].T @ x[rest] + lam * np.eye(3)
        w = np.linalg.solve(gram, x[rest].T @ (residual[rest] - mean))
        np.testing.assert_allclose(own[row], first[row] + (first[row] - centre) @ w + mean, atol=1e-9)
    # A full refit without the row gives the same, except for the effect of one row in fifty on the means.
    for row in range(0, 50, 7):
        rest = np.delete(np.arange(50), row)
        refitted = fit_across(first[rest], truth[rest], 0.1)[0].correct(first[row : row + 1])[0]
        np.testing.assert_allclose(own[row], refitted, atol=0.02)
        assert np.abs(own[row] - refitted).max() < np.abs(across.correct(first[row]) - own[row]).max() + 0.01


def test_text_cost_fit_finds_the_price_of_a_character():
    features = np.zeros((50, 38))
    features[:, 0] = np.arange(50) * 20 + 30
    features[:, 10] = 1
    cost = features[:, :1] * [2e-7, 4e-6] + 1e-6
    predicted = TextCost.fit(features, cost).predict(features)
    np.testing.assert_allclose(predicted, cost, rtol=1e-3)


def test_form_features_without_cues_are_the_embedding():
    vectors = np.eye(3, dtype=np.float32)
    form = FormFeatures.fit(np.zeros((3, 38)), weight=0.0)
    np.testing.assert_array_equal(form.rows(vectors, np.zeros((3, 38))), vectors)


SETTINGS = {
    "exact": RidgeSettings(),
    "landmarks": RidgeSettings(landmarks=60, cost_parts=("text-kernel", "kernel")),
    "every cost": RidgeSettings(cost_parts=PARTS, grid=((1.0, 1.0),)),
    "words": RidgeSettings(words=6, cost_parts=("kernel",), grid=((1.0, 1.0),)),
    "plain": RidgeSettings(cue_weight=0.0, across=False, cost_parts=("kernel",)),
}


@pytest.fixture(autouse=True)
def short_histories_are_long_enough(monkeypatch):
    monkeypatch.setattr("routing.estimators.ridge.SMALLEST_HISTORY", 100)


@pytest.mark.parametrize("name", SETTINGS)
def test_estimates_are_useful_bounded_and_independent_of_the_batch(name):
    history, new = made(200), made(70, seed=9)
    estimator = fit_ridge(history, SETTINGS[name])
    batch = new.batch()
    estimates = estimator.estimate(batch)
    assert ((estimates.quality >= 0) & (estimates.quality <= 1)).all()
    assert (estimates.cost > 0).all()
    truth = new.history
    spread = ((truth.quality - history.history.quality.mean(0)) ** 2).mean()
    assert ((estimates.quality - truth.quality) ** 2).mean() < 0.6 * spread
    max_error = 1.0 if name in ("plain", "words") else 0.15
    assert np.abs(estimates.cost / truth.cost - 1).mean() < max_error
    alone = [
        estimator.estimate(QueryBatch(batch.prompts[i : i + 1], batch.embeddings[i : i + 1]))
        for i in range(0, 70, 7)
    ]
    np.testing.assert_allclose(np.vstack([e.quality for e in alone]), estimates.quality[::7], atol=1e-6)
    np.testing.assert_allclose(np.vstack([e.cost for e in alone]), estimates.cost[::7], rtol=1e-5)
    own = estimator.leave_one_out()
    assert own.quality.shape == history.history.quality.shape
    error = ((own.quality - history.history.quality) ** 2).mean()
    assert error > 0.5 * ((estimates.quality - truth.quality) ** 2).mean()


@pytest.mark.parametrize("name", ["exact", "landmarks", "words", "plain"])
def test_load_returns_equal_estimates(name, tmp_path):
    history, new = made(120), made(20, seed=4).batch()
    estimator = fit_ridge(history, SETTINGS[name])
    estimator.save(tmp_path)
    again = RidgeEstimator.load(tmp_path, history)
    np.testing.assert_allclose(again.estimate(new).quality, estimator.estimate(new).quality, atol=1e-12)
    np.testing.assert_allclose(again.estimate(new).cost, estimator.estimate(new).cost, rtol=1e-12)
    np.testing.assert_array_equal(again.leave_one_out().cost, estimator.leave_one_out().cost)
    assert again.models == estimator.models
    with pytest.raises(HistoryError, match="fit"):
        RidgeEstimator.load(tmp_path, made(120, seed=8))


@pytest.mark.parametrize("landmarks", [None, 50])
def test_fit_ridge_chooses_the_kernel_with_the_smallest_error(landmarks):
    history = made(150)
    grid = ((0.05, 30.0), (0.3, 3.0), (1.0, 0.3), (8.0, 0.1))
    steps = []
    settings = RidgeSettings(landmarks=landmarks, grid=grid, cost_parts=("kernel",), across=False)
    estimator = fit_ridge(history, settings, on_step=steps.append)
    errors = [float(step.rsplit(" ", 1)[1]) for step in steps if "leave-one-out" in step]
    estimates = ((estimator.leave_one_out().quality - history.history.quality) ** 2).mean()
    assert estimates <= min(errors) + 1e-5
    assert estimator.machine.gamma == 1.0


def test_fit_ridge_invalid_input_names_the_field():
    with pytest.raises(ValueError, match="cost_parts"):
        RidgeSettings(cost_parts=("guess",))
    with pytest.raises(ValueError, match="grid"):
        RidgeSettings(grid=())
