"""Few samples: the warning with a sufficient number, and topping up with rows of the history."""

import numpy as np
import pytest

from routing.budgets.catalogue import FREE_BUDGET, Catalogue
from routing.estimators.base import Estimates
from routing.estimators.neighbours import LEAST_COST
from routing.fitting.presets import PRESETS
from routing.planning.lp_prices import solve_lp
from routing.planning.sample_size import few_samples, sufficient_samples
from routing.planning.samples import shuffled
from routing.planning.schedule import PlanningSettings
from routing.policy.decision import UNSERVED
from routing.simulation import simulate
from tests.routing.planning.small_planner import (
    BUDGETS,
    HISTORY,
    MODELS,
    learn,
    make_planner,
    random_estimates,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "8 samples (0.025 of 300 queries) are too few to price 11 LLMs; 110 would do"),
        ({"top_up_samples": False}, "set eps to at least 0.367, or top_up_samples=true"),
        ({"horizon": 90}, "a period has fewer queries, so set warmup=history"),
        ({"warmup": "random"}, "too few"),
        ({"warmup": "history", "resolve": "geometric"}, "too few"),
    ],
)
def test_few_samples_names_a_sufficient_number(options, message):
    assert message in (few_samples(PlanningSettings(**{"horizon": 300} | options), 11) or "")


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 4400},
        {"eps": 0.3667},
        {"warmup": "history"},
        {"resolve": "every"},
        PRESETS["fast"].planning,
        PRESETS["best"].planning,
    ],
)
def test_few_samples_returns_none_if_samples_suffice_or_are_unused(options):
    assert few_samples(PlanningSettings(**{"horizon": 300} | options), 11) is None


def test_few_samples_advice_followed_returns_none():
    assert few_samples(PlanningSettings(horizon=300, eps=0.367), 11) is None


def solved_on(sample: Estimates, rows: int, horizon: int) -> np.ndarray:
    """Return prices of a sample that is topped up to a number of rows."""
    more = shuffled(HISTORY).rows(slice(0, rows - len(sample)))
    quality = np.concatenate([sample.quality, more.quality])
    cost = np.concatenate([sample.cost, more.cost])
    return solve_lp(quality, cost, BUDGETS * rows / horizon).prices


def test_solve_with_few_samples_adds_rows_of_the_history():
    planner = make_planner(eps=0.02, history=HISTORY)
    sample = random_estimates(8)
    (plan,) = learn(planner, sample)
    assert sufficient_samples(len(MODELS)) == 30
    assert (plan.solved_from.observed, plan.solved_from.rows) == (8, 30)
    assert plan.prices == pytest.approx(solved_on(sample, 30, 400))


def test_solve_without_top_up_uses_samples_only():
    sample = random_estimates(8)
    (plan,) = learn(make_planner(eps=0.02, history=HISTORY, top_up_samples=False), sample)
    assert plan.solved_from.rows == 8
    assert plan.prices == pytest.approx(solve_lp(sample.quality, sample.cost, BUDGETS * 8 / 400).prices)
    assert not PlanningSettings(horizon=1, **PRESETS["paper"].planning).top_up_samples


def test_solve_with_enough_samples_does_not_load_the_history():
    def load() -> Estimates:
        raise AssertionError("the history is not needed")

    (plan,) = learn(make_planner(eps=0.075, history=load), random_estimates(30))
    assert plan.solved_from.rows == 30


@pytest.mark.parametrize(("top_up", "rows"), [(True, 40), (False, 40)])
def test_early_solve_replaces_missing_samples_by_rows(top_up, rows):
    """The paper's form needs it too: fewer than eps N queries arrived."""
    planner = make_planner(eps=0.1, history=lambda: HISTORY, top_up_samples=top_up)
    sample = random_estimates(3)
    planner.observe(sample)
    plan = planner.solve(early=True)
    assert plan is not None
    assert plan.solved_from.rows == rows
    assert plan.prices == pytest.approx(solved_on(sample, rows, 400))


def test_history_loaded_late_has_the_columns_of_the_plan():
    late = make_planner(eps=0.02, history=lambda: HISTORY)
    early = make_planner(eps=0.02, history=HISTORY)
    for planner in (late, early):
        planner.apply_catalogue(1, ("c", "d", "a"), np.array([0.01, 0.04, 0.02]))
    sample = random_estimates(8, models=4)
    (one,), (other,) = learn(late, sample), learn(early, sample)
    assert one.prices.tolist() == other.prices.tolist()
    assert one.solved_from.rows == 30


def test_rows_with_measurements_fill_the_column_of_an_llm_without_history():
    planner = make_planner(eps=0.02, history=HISTORY)
    planner.apply_catalogue(1, (*MODELS, "d"), np.append(BUDGETS, 0.001))
    planner.record_measurements({"d": [30, 0.9, 1e-4]})
    rows = planner.history_rows.rows_with(planner.plan.measured)
    assert rows is not None
    assert set(rows.quality[:, 3]) == {0.9}
    assert set(rows.cost[:, 3]) == {1e-4}
    planner.record_measurements({"d": [29, 0.9, 1e-4]})
    assert not planner.history_rows.rows_with(planner.plan.measured).quality[:, 3].any(), "too few answers"


def test_topped_up_prices_serve_more_than_prices_of_few_samples():
    random = np.random.default_rng(0)
    models, n = 10, 300
    level, price = np.linspace(0.3, 0.8, models), np.logspace(-5, -3.5, models)

    def draw(rows: int) -> Estimates:
        quality = np.clip(level + random.normal(0, 0.2, (rows, models)), 0, 1)
        return Estimates(quality, price * random.uniform(0.5, 1.5, (rows, models)))

    reached = {True: 0.0, False: 0.0}
    for _ in range(5):
        queries, history = draw(n), draw(1000)
        budgets = queries.cost.sum(0) * 0.05
        for top_up in reached:
            settings = PlanningSettings(horizon=n, top_up_samples=top_up)
            choice = simulate(queries, budgets, settings, history=history).choice
            rows = np.flatnonzero(choice != UNSERVED)
            reached[top_up] += queries.quality[rows, choice[rows]].sum()
    assert reached[True] > 1.1 * reached[False]


# --- LLMs that cost nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["exact", "newton"])
def test_free_llm_without_budget_is_served(solver):
    catalogue = Catalogue.from_dict(
        {"models": [{"name": "free", "budget_usd": 0}, {"name": "paid", "budget_usd": 0.01}]}
    )
    random = np.random.default_rng(0)
    quality = random.random((100, 2))
    estimates = Estimates(quality, np.tile([LEAST_COST, 1e-3], (100, 1)))
    budgets = catalogue.budget_per_llm(quality.mean(0), np.array([0.0, 1e-3]))
    settings = PlanningSettings(horizon=100, eps=0.3, solver=solver)
    choice = simulate(estimates, budgets, settings).choice
    assert (choice == 0).sum() >= 85
    assert (choice == 1).sum() <= 10


def test_budgets_replace_zero_for_free_llms_only():
    def budgets(free: float, cost: float) -> list[float]:
        models = [{"name": "a", "budget_usd": free}, {"name": "b", "budget_usd": 0.5}]
        return Catalogue.from_dict({"models": models}).budget_per_llm([0.5, 0.5], [cost, 1e-3]).tolist()

    assert budgets(0, 0.0) == [FREE_BUDGET, 0.5]
    assert budgets(0, 1e-9) == [0, 0.5]
    assert budgets(0.25, 0.0) == [0.25, 0.5]
