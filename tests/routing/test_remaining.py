"""The mix of what a period still has to come."""

from __future__ import annotations

import numpy as np
import pytest

from routing.estimators.base import Estimates
from routing.planning import PlanningSettings
from routing.remaining import RemainingMix
from routing.simulate import account_for, simulate


def two_kinds(n, seed=0, first=0.5):
    """Queries that only LLM 0 can answer, and queries that only LLM 1 can, at ten times the cost."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) >= first
    quality = np.where(hard[:, None], [0.05, 0.9], [0.8, 0.85]) + rng.normal(0, 0.02, (n, 2))
    cost = np.exp(rng.normal(0, 0.1, (n, 1))) * [1e-4, 1e-3]
    return Estimates(np.clip(quality, 0, 1), cost), hard


def test_weights_sum_to_what_is_left_and_follow_what_has_not_come():
    history, hard = two_kinds(2000)
    mix = RemainingMix(history, horizon=1000)
    assert mix.weights().sum() == pytest.approx(1000)
    easy = Estimates(history.quality[~hard][:400], history.cost[~hard][:400])
    mix.observe(easy)
    weights = mix.weights()
    assert weights.sum() == pytest.approx(600)
    share = weights[hard[: len(weights)]].sum() / weights.sum()
    assert 0.75 < share < 0.92  # 500 hard and 100 easy ones are left
    mix.reset()
    assert mix.weights().sum() == pytest.approx(1000)


def test_a_stream_unlike_the_history_moves_the_mix_to_what_came_recently():
    history, hard = two_kinds(2000, first=0.9)
    mix = RemainingMix(history, horizon=1000)
    mix.observe(Estimates(history.quality[hard], history.cost[hard]))
    mix.observe(Estimates(history.quality[hard], history.cost[hard]))
    weights = mix.weights()
    assert weights[hard[: len(weights)]].sum() / weights.sum() > 0.7


def test_batches_do_not_matter():
    history, _ = two_kinds(1500)
    queries, _ = two_kinds(300, seed=1)
    one, many = RemainingMix(history, 600), RemainingMix(history, 600)
    one.observe(queries)
    for start in range(0, 300, 7):
        many.observe(queries.rows(slice(start, start + 7)))
    np.testing.assert_allclose(one.weights(), many.weights())


def test_sorted_arrival_is_routed_better_than_from_recent_queries():
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


def test_small_histories_and_equal_rows_are_no_trouble():
    history = Estimates(np.full((3, 2), 0.5), np.full((3, 2), 1e-3))
    mix = RemainingMix(history, horizon=10)
    mix.observe(history)
    assert mix.weights().sum() == pytest.approx(7)
