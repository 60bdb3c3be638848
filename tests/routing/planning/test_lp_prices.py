"""The exact linear program: strong duality and complementary slackness, including degenerate instances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.planning.lp_prices import dual_objective, solve_lp


def assert_optimal(quality, cost, budgets, solution):
    x, y = solution.assignment, solution.prices
    tol = 1e-6 * max(1.0, len(quality))
    spent = (cost * x).sum(0)
    assert np.all(x >= -1e-9)
    assert np.all(x.sum(1) <= 1 + 1e-7)
    assert np.all(spent <= budgets * (1 + 1e-6) + 1e-9)
    assert np.all(y >= 0)
    assert np.all(np.isfinite(y))
    # strong duality
    assert (quality * x).sum() == pytest.approx(solution.objective, abs=tol)
    assert dual_objective(y, quality, cost, budgets) == pytest.approx(solution.objective, abs=tol)
    # complementary slackness: only binding budgets have a price, queries go to their best LLM only
    assert np.abs(y * (budgets - spent)).max(initial=0) <= tol
    score = quality - y * cost
    best = np.maximum(score.max(1, initial=0.0), 0.0)
    assert np.abs(x * (best[:, None] - score)).max(initial=0) <= tol
    assert np.abs((1 - x.sum(1)) * best).max(initial=0) <= tol


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    models=st.integers(1, 5),
    scale=st.sampled_from([1.0, 1e-6]),
    tightness=st.sampled_from([0.0, 0.1, 0.5, 5.0]),
)
def test_solve_lp_satisfies_strong_duality_and_complementary_slackness(seed, n, models, scale, tightness):
    rng = np.random.default_rng(seed)
    quality = rng.integers(0, 6, (n, models)) / 5
    cost = rng.uniform(0.2, 2.0, (n, models)) * scale
    budgets = rng.uniform(0, 1, models) * tightness * n / models * scale
    budgets[rng.random(models) < 0.2] = 0.0
    assert_optimal(quality, cost, budgets, solve_lp(quality, cost, budgets))


@pytest.mark.parametrize(
    ("quality", "cost", "budgets"),
    [
        pytest.param([[0.7]], [[1.0]], [0.5], id="one query, one LLM, half paid"),
        pytest.param([[0.7]], [[1.0]], [0.0], id="a zero budget"),
        pytest.param([[0.7, 0.0], [0.4, 0.0]], [[1.0, 1.0]] * 2, [1.0, 9.0], id="an LLM without demand"),
        pytest.param([[0.7, 0.6]] * 3, [[1.0, 1.0]] * 3, [9.0, 9.0], id="budgets that bind nothing"),
        pytest.param([[0.5, 0.5]] * 4, [[1.0, 1.0]] * 4, [1.0, 1.0], id="all alike"),
    ],
)
def test_solve_lp_degenerate_instances(quality, cost, budgets):
    arrays = np.array(quality), np.array(cost), np.array(budgets)
    assert_optimal(*arrays, solve_lp(*arrays))


def test_solve_lp_slack_budgets_have_price_zero():
    solution = solve_lp(np.full((5, 2), 0.5), np.ones((5, 2)), np.array([99.0, 99.0]))
    assert solution.prices.tolist() == [0.0, 0.0]


def test_solve_lp_without_queries_returns_zero_prices():
    solution = solve_lp(np.empty((0, 2)), np.empty((0, 2)), np.array([1.0, 0.0]))
    assert solution.objective == 0.0
    assert solution.prices.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quality": np.array([[np.nan]])}, "quality"),
        ({"cost": np.array([[-1.0]])}, "cost"),
        ({"budgets": np.array([1.0, 2.0])}, "budgets"),
    ],
)
def test_solve_lp_invalid_input_names_the_field(change, message):
    arguments = {"quality": np.ones((1, 1)), "cost": np.ones((1, 1)), "budgets": np.ones(1)} | change
    with pytest.raises(ValueError, match=message):
        solve_lp(**arguments)
