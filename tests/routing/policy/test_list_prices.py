"""Changes of list prices: their baseline, and estimates that follow them exactly once."""

from dataclasses import replace

import numpy as np
import pytest

from routing.budgets.catalogue import Catalogue
from routing.estimators.base import Estimates
from routing.planning.lp_prices import solve_lp
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.alignment import align
from routing.policy.list_prices import PriceChange, baseline_prices, cost_factors, list_prices_of

MODELS = ("a", "b")
BUDGETS = np.array([0.02, 0.05])
HISTORY = Estimates(
    np.random.default_rng(1).random((80, 2)), np.random.default_rng(2).uniform(1e-4, 1e-3, (80, 2))
)
FILE = {"a": [1.0, 2.0], "b": [3.0, 3.0]}
DOUBLED = FILE | {"a": [2.0, 4.0]}


def make_planner(now=FILE, history_prices=None, catalogue=0, history=HISTORY, **options) -> Planner:
    """Make the planner of a worker that starts with these prices and those of the history."""
    options = {"horizon": 400, "eps": 0.05} | options
    return Planner(
        PlanningSettings(**options),
        MODELS,
        BUDGETS,
        history=history,
        catalogue=catalogue,
        list_prices=PriceChange(now, history_prices),
    )


def doubled(**options) -> Planner:
    planner = make_planner(**options)
    planner.start_period()
    planner.apply_catalogue(1, MODELS, BUDGETS, PriceChange(DOUBLED))
    return planner


@pytest.mark.parametrize(
    ("now", "history", "factor"),
    [
        ([2.0, 4.0], [1.0, 2.0], 2.0),
        ([2.0, 2.0], [1.0, 2.0], 1.5),
        ([1.0, 2.0], [1.0, 2.0], None),
        ([2.0, 4.0], [None, None], None),  # The change is unknown.
        ([2.0, 4.0], [None, 2.0], 2.0),
        ([None, None], [1.0, 2.0], None),
        ([2.0, 4.0], [0.0, 0.0], None),  # A cost of 0 stays 0.
        ([0.0, 0.0], [1.0, 2.0], 0.0),
    ],
)
def test_cost_factors_are_mean_ratios_of_comparable_prices(now, history, factor):
    assert cost_factors({"a": now}, {"a": history}).get("a") == factor


def test_baseline_prices_take_the_first_price():
    known = list_prices_of(Catalogue.from_dict({"budget_usd": 1, "models": ["a", "b"]}))
    known = baseline_prices(known, {"a": [1.0, 1.0]})
    assert cost_factors({"a": [1.0, 1.0]}, known) == {}
    known = baseline_prices(known, {"a": [3.0, 3.0], "c": [5.0, 5.0]})
    assert cost_factors({"a": [3.0, 3.0], "c": [5.0, 5.0]}, known) == {"a": 3.0}
    # A removed LLM returns.
    known = baseline_prices(baseline_prices(known, {"c": [5.0, 5.0]}), {"a": [2.0, 2.0]})
    assert cost_factors({"a": [2.0, 2.0]}, known) == {"a": 2.0}


@pytest.mark.parametrize("file", [FILE, DOUBLED, {"a": [9.0, 9.0]}], ids=["first", "edited", "another"])
def test_resume_with_any_catalogue_file_keeps_cost_factors(file):
    planner = doubled()
    assert planner.plan.cost_factor == {"a": 2.0}
    successor = make_planner(DOUBLED, history_prices=file, catalogue=1)
    successor.resume(planner.plan)
    plan = successor.apply_catalogue(2, MODELS, 2 * BUDGETS, PriceChange(DOUBLED))
    assert plan.cost_factor == {"a": 2.0}, "only budgets changed"
    assert successor.apply_catalogue(3, MODELS, BUDGETS, PriceChange(FILE)).cost_factor == {}


def test_resume_plan_of_an_older_planner_derives_the_baseline():
    old = replace(doubled().plan, priced_by={})
    successor = make_planner(DOUBLED, history_prices=DOUBLED, catalogue=1)
    successor.resume(old)
    assert successor.plan.priced_by == FILE
    assert successor.apply_catalogue(2, MODELS, BUDGETS, PriceChange(DOUBLED)).cost_factor == {"a": 2.0}


def test_apply_catalogue_with_history_prices_sets_the_baseline():
    """A new history is made at the current prices."""
    planner = doubled()
    assert planner.apply_catalogue(2, MODELS, BUDGETS, PriceChange(DOUBLED, DOUBLED)).cost_factor == {}
    threefold = PriceChange(FILE | {"a": [6.0, 12.0]})
    assert planner.apply_catalogue(3, MODELS, BUDGETS, threefold).cost_factor == {"a": 3.0}


def test_warmup_history_prices_use_current_list_prices():
    planner = doubled(warmup="history")
    planner.start_period()
    rows = planner.history_rows.rows
    assert rows.cost.mean(0) == pytest.approx(HISTORY.cost.mean(0) * [2.0, 1.0])
    exact = solve_lp(rows.quality, rows.cost, BUDGETS * len(rows) / 400)
    assert planner.plan.prices == pytest.approx(exact.prices)
    successor = make_planner(DOUBLED, history_prices=DOUBLED, catalogue=1, warmup="history")
    successor.resume(planner.plan)
    assert np.array_equal(successor.history_rows.rows.cost, rows.cost)


@pytest.mark.parametrize("mix", ["recent", "remaining"])
def test_topped_up_rows_use_current_list_prices(mix):
    """Samples carry the lanes' estimates, which use the current prices already."""
    form = {"resolve": "every", "resolve_every": 20, "solver": "newton", "mix": mix}
    planner = doubled(**form)
    same = make_planner(DOUBLED, history=Estimates(HISTORY.quality, HISTORY.cost * [2.0, 1.0]), **form)
    same.start_period()
    samples = HISTORY.rows(slice(0, 60))
    for one in (planner, same):
        one.record_account(0, replace(Account.fresh(1, 2), arrived=60))
        assert one.observe(samples)
    assert planner.plan.prices == pytest.approx(same.plan.prices, rel=1e-6)
    assert planner.history_rows.mean_cost == pytest.approx(same.history_rows.mean_cost)


def test_mean_cost_follows_list_prices_until_the_next_solve():
    planner = make_planner()
    planner.start_period()
    before = planner.history_rows.mean_cost
    plan = planner.apply_catalogue(1, MODELS, BUDGETS, PriceChange(DOUBLED))
    assert planner.history_rows.mean_cost == pytest.approx(before * [2.0, 1.0])
    assert plan.solved_from.mean_cost == pytest.approx((before * [2.0, 1.0]).tolist())


def test_measurements_are_not_scaled_by_list_prices():
    """Outcomes measure the cost of an LLM without history, at the new price too."""
    plan = replace(doubled().plan, measured={"a": [99, 0.5, 3e-3]})
    aligned = align(("b",), plan).apply(Estimates(np.array([[0.4]]), np.array([[1e-3]])))
    assert aligned.cost.tolist() == [[3e-3, 1e-3]]
    known = align(MODELS, plan).apply(Estimates(np.array([[0.4, 0.4]]), np.array([[1e-3, 1e-3]])))
    assert known.cost.tolist() == [[2e-3, 1e-3]]
