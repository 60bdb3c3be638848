"""Weights of the history's rows for the rest of a period."""

from __future__ import annotations

import numpy as np
import pytest

from routing.accounting import account_for
from routing.estimators.base import Estimates
from routing.planning.remaining_mix import RemainingMix
from routing.planning.schedule import PlanningSettings
from routing.simulation import simulate


def two_kinds(n, seed=0, first=0.5):
    """Make queries for LLM 0 only, and queries for LLM 1 only at ten times the cost."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) >= first
    quality = np.where(hard[:, None], [0.05, 0.9], [0.8, 0.85]) + rng.normal(0, 0.02, (n, 2))
    cost = np.exp(rng.normal(0, 0.1, (n, 1))) * [1e-4, 1e-3]
    return Estimates(np.clip(quality, 0, 1), cost), hard


def test_weights_sum_to_the_remaining_queries_and_follow_missing_kinds():
    history, hard = two_kinds(2000)
    mix = RemainingMix(history, horizon=1000)
    assert mix.weights().sum() == pytest.approx(1000)
    easy = Estimates(history.quality[~hard][:400], history.cost[~hard][:400])
    mix.observe(easy)
    weights = mix.weights()
    assert weights.sum() == pytest.approx(600)
    share = weights[hard[: len(weights)]].sum() / weights.sum()
    assert 0.75 < share < 0.92  # 500 hard and 100 easy queries remain.
    mix.reset()
    assert mix.weights().sum() == pytest.approx(1000)


def test_weights_of_a_different_stream_follow_recent_queries():
    history, hard = two_kinds(2000, first=0.9)
    mix = RemainingMix(history, horizon=1000)
    mix.observe(Estimates(history.quality[hard], history.cost[hard]))
    mix.observe(Estimates(history.quality[hard], history.cost[hard]))
    weights = mix.weights()
    assert weights[hard[: len(weights)]].sum() / weights.sum() > 0.7


def test_weights_do_not_depend_on_batches():
    history, _ = two_kinds(1500)
    queries, _ = two_kinds(300, seed=1)
    one, many = RemainingMix(history, 600), RemainingMix(history, 600)
    one.observe(queries)
    for start in range(0, 300, 7):
        many.observe(queries.rows(slice(start, start + 7)))
    np.testing.assert_allclose(one.weights(), many.weights())


def test_remaining_mix_beats_recent_queries_on_sorted_arrival():
    history, _ = two_kinds(2000)
    queries, hard = two_kinds(1000, seed=2)
    order = np.argsort(hard, kind="stable")
    queries = queries.rows(order)
    budgets = np.array([0.2, 0.3])
    reached = {}
    for mix in ("recent", "remaining"):
        settings = PlanningSettings(
            horizon=1000, warmup="history", resolve="every", solver="newton", mix=mix, resolve_every=50
        )
        run = simulate(queries, budgets, settings, history=history)
        reached[mix] = account_for(run.choice, queries.quality, queries.cost, budgets).performance
    assert reached["remaining"] >= reached["recent"] * 1.02


def test_remaining_mix_accepts_small_histories_and_equal_rows():
    history = Estimates(np.full((3, 2), 0.5), np.full((3, 2), 1e-3))
    mix = RemainingMix(history, horizon=10)
    mix.observe(history)
    assert mix.weights().sum() == pytest.approx(7)
