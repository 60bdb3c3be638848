"""Total budgets, and their split by the paper's six rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.budgets.splits import SPLITS, best_single, split_budget, total_budget

QUALITY = np.array([0.9, 0.5, 0.1])
COST = np.array([0.04, 0.01, 0.01])


def test_total_budget_is_the_cheapest_cost_times_the_factor():
    cost = np.array([[1.0, 0.5], [1.0, 2.0], [1.0, 0.4]])
    assert total_budget(cost) == pytest.approx(2.9)
    assert total_budget(cost, 0.25) == pytest.approx(0.725)
    with pytest.raises(ValueError, match="factor"):
        total_budget(cost, 0.0)


def test_total_budget_ignores_free_llms():
    cost = np.array([[0.0, 0.5, 1.0], [0.0, 0.25, 1.0]])
    assert total_budget(cost, 2.0) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="every LLM costs nothing"):
        total_budget(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("how", "weights"),
    [
        ("weighted", np.sqrt(QUALITY / COST)),
        ("cost", np.sqrt(1 / COST)),
        ("perf", QUALITY),
        ("uniform", np.ones(3)),
    ],
)
def test_split_budget_rules(how, weights):
    assert split_budget(12.0, QUALITY, COST, how) == pytest.approx(12.0 * weights / weights.sum())


def test_split_budget_extreme_favours_the_lowest_quality_per_cost():
    # quality / cost: 22.5, 50, 10
    assert split_budget(10.0, QUALITY, COST, "extreme", h=1) == pytest.approx([1.0, 1.0, 8.0])
    assert split_budget(10.0, QUALITY, COST, "extreme", h=2) == pytest.approx([4.0, 2.0, 4.0])
    for h in (0, 3):
        with pytest.raises(ValueError, match="h:"):
            split_budget(10.0, QUALITY, COST, "extreme", h=h)


def test_split_budget_random_draws_from_5_to_30_by_seed():
    one = split_budget(1.0, QUALITY, COST, "random", seed=4)
    assert np.array_equal(one, split_budget(1.0, QUALITY, COST, "random", seed=4))
    assert not np.array_equal(one, split_budget(1.0, QUALITY, COST, "random", seed=5))
    assert one.max() / one.min() <= 6


@given(
    st.sampled_from(SPLITS),
    st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 1.0)), min_size=2, max_size=8),
    st.floats(0, 1e6),
)
def test_split_budget_every_rule_sums_to_the_total(how, llms, total):
    quality, cost = map(np.array, zip(*llms, strict=True))
    budgets = split_budget(total, quality, cost, how)
    assert budgets.sum() == pytest.approx(total)
    assert (budgets >= 0).all()


@pytest.mark.parametrize("how", SPLITS)
def test_split_budget_accepts_free_and_single_llms(how):
    free = split_budget(3.0, QUALITY, np.array([0.04, 0.0, 0.01]), how)
    assert free == pytest.approx(split_budget(3.0, QUALITY, COST, how))
    assert split_budget(3.0, QUALITY, np.zeros(3), how).sum() == pytest.approx(3.0)
    assert split_budget(3.0, QUALITY[:1], COST[:1], how) == pytest.approx(np.array([3.0]))


def test_split_budget_invalid_input_raises():
    with pytest.raises(ValueError, match="how"):
        split_budget(1.0, QUALITY, COST, "fair")
    with pytest.raises(ValueError, match="cost_mean"):
        split_budget(1.0, QUALITY, np.array([0.1, -0.1, 0.1]), "weighted")
    with pytest.raises(ValueError, match="h: 3 must be between 1 and 2"):
        split_budget(1.0, QUALITY, COST, "extreme", h=3)
    assert split_budget(3.0, np.zeros(3), COST, "perf") == pytest.approx(np.ones(3))


def test_best_single_serves_the_highest_quality_within_its_budget():
    quality, cost = np.array([0.9, 0.6, 0.3]), np.array([1.0, 0.1, 0.001])
    budgets = np.array([10.0, 10.0, 10.0])
    # 100 queries: 10 x 0.9, 100 x 0.6, 100 x 0.3; 5 queries: all are served by each
    assert best_single(quality, cost, budgets, 100) == 1
    assert best_single(quality, cost, budgets, 5) == 0
    assert best_single(quality, cost, np.array([10.0, 1.0, 10.0]), 100) == 2
    assert best_single(quality, np.zeros(3), budgets, 100) == 0
    assert best_single(np.ones(3), np.ones(3), np.ones(3), 9) == 0
