"""A change of list prices: what it is relative to, and that everything that is estimated follows it once."""

from dataclasses import replace

import numpy as np
import pytest

from routing.account import Account
from routing.alignment import align
from routing.catalogue import Catalogue
from routing.estimators.base import Estimates
from routing.list_prices import PriceChange, cost_factors, first_listed, listed
from routing.planning import Planner, PlanningSettings
from routing.prices import solve_lp

MODELS = ("a", "b")
BUDGETS = np.array([0.02, 0.05])
HISTORY = Estimates(
    np.random.default_rng(1).random((80, 2)), np.random.default_rng(2).uniform(1e-4, 1e-3, (80, 2))
)
FILE = {"a": [1.0, 2.0], "b": [3.0, 3.0]}
DOUBLED = FILE | {"a": [2.0, 4.0]}


def planner(now=FILE, told=None, catalogue=0, history=HISTORY, **options) -> Planner:
    """Of a worker that starts with these prices; `told` are the history's."""
    options = {"horizon": 400, "eps": 0.05} | options
    return Planner(
        PlanningSettings(**options), MODELS, BUDGETS, history=history, catalogue=catalogue,
        list_prices=PriceChange(now, told),
    )  # fmt: skip


def doubled(**options) -> Planner:
    made = planner(**options)
    made.start_period()
    made.apply_catalogue(1, MODELS, BUDGETS, PriceChange(DOUBLED))
    return made


@pytest.mark.parametrize(
    ("now", "history", "factor"),
    [
        ([2.0, 4.0], [1.0, 2.0], 2.0),
        ([2.0, 2.0], [1.0, 2.0], 1.5),
        ([1.0, 2.0], [1.0, 2.0], None),
        ([2.0, 4.0], [None, None], None),  # nothing is known of a change
        ([2.0, 4.0], [None, 2.0], 2.0),
        ([None, None], [1.0, 2.0], None),
        ([2.0, 4.0], [0.0, 0.0], None),  # nothing times anything stays nothing
        ([0.0, 0.0], [1.0, 2.0], 0.0),
    ],
)
def test_the_factor_is_the_mean_ratio_of_what_can_be_compared(now, history, factor):
    assert cost_factors({"a": now}, {"a": history}).get("a") == factor


def test_a_price_where_there_was_none_is_what_later_changes_are_told_from():
    known = listed(Catalogue.from_dict({"budget_usd": 1, "models": ["a", "b"]}))
    known = first_listed(known, {"a": [1.0, 1.0]})
    assert cost_factors({"a": [1.0, 1.0]}, known) == {}
    known = first_listed(known, {"a": [3.0, 3.0], "c": [5.0, 5.0]})
    assert cost_factors({"a": [3.0, 3.0], "c": [5.0, 5.0]}, known) == {"a": 3.0}
    # an LLM that was away comes back
    known = first_listed(first_listed(known, {"c": [5.0, 5.0]}), {"a": [2.0, 2.0]})
    assert cost_factors({"a": [2.0, 2.0]}, known) == {"a": 2.0}


@pytest.mark.parametrize("file", [FILE, DOUBLED, {"a": [9.0, 9.0]}], ids=["first", "edited", "another"])
def test_a_successor_that_starts_on_any_file_knows_the_change(file):
    made = doubled()
    assert made.plan.cost_factor == {"a": 2.0}
    successor = planner(DOUBLED, told=file, catalogue=1)
    successor.resume(made.plan)
    plan = successor.apply_catalogue(2, MODELS, 2 * BUDGETS, PriceChange(DOUBLED))
    assert plan.cost_factor == {"a": 2.0}, "budgets alone have changed"
    assert successor.apply_catalogue(3, MODELS, BUDGETS, PriceChange(FILE)).cost_factor == {}


def test_a_plan_by_an_older_planner_tells_by_its_factors():
    old = replace(doubled().plan, priced_by={})
    successor = planner(DOUBLED, told=DOUBLED, catalogue=1)
    successor.resume(old)
    assert successor.plan.priced_by == FILE
    assert successor.apply_catalogue(2, MODELS, BUDGETS, PriceChange(DOUBLED)).cost_factor == {"a": 2.0}


def test_prices_that_come_with_a_catalogue_are_the_historys():
    """A new history, made at today's prices."""
    made = doubled()
    assert made.apply_catalogue(2, MODELS, BUDGETS, PriceChange(DOUBLED, DOUBLED)).cost_factor == {}
    threefold = PriceChange(FILE | {"a": [6.0, 12.0]})
    assert made.apply_catalogue(3, MODELS, BUDGETS, threefold).cost_factor == {"a": 3.0}


def test_prices_of_a_period_are_solved_on_the_history_at_the_prices_of_today():
    made = doubled(warmup="history")
    made.start_period()
    rows = made.past.rows
    assert rows.cost.mean(0) == pytest.approx(HISTORY.cost.mean(0) * [2.0, 1.0])
    exact = solve_lp(rows.quality, rows.cost, BUDGETS * len(rows) / 400)
    assert made.plan.prices == pytest.approx(exact.prices)
    successor = planner(DOUBLED, told=DOUBLED, catalogue=1, warmup="history")
    successor.resume(made.plan)
    assert np.array_equal(successor.past.rows.cost, rows.cost)


@pytest.mark.parametrize("mix", ["recent", "remaining"])
def test_what_tops_up_recent_samples_has_the_prices_of_today(mix):
    """Samples come with the lanes' estimates, which are at the prices of today by themselves."""
    form = {"resolve": "every", "resolve_every": 20, "solver": "newton", "mix": mix}
    made = doubled(**form)
    same = planner(DOUBLED, history=Estimates(HISTORY.quality, HISTORY.cost * [2.0, 1.0]), **form)
    same.start_period()
    samples = HISTORY.rows(slice(0, 60))
    for one in (made, same):
        one.see(0, replace(Account.fresh(1, 2), arrived=60))
        assert one.observe(samples)
    assert made.plan.prices == pytest.approx(same.plan.prices, rel=1e-6)
    assert made.past.mean_cost == pytest.approx(same.past.mean_cost)


def test_what_a_query_costs_follows_until_samples_say_more():
    made = planner()
    made.start_period()
    before = made.past.mean_cost
    plan = made.apply_catalogue(1, MODELS, BUDGETS, PriceChange(DOUBLED))
    assert made.past.mean_cost == pytest.approx(before * [2.0, 1.0])
    assert plan.solved_from["mean_cost"] == pytest.approx((before * [2.0, 1.0]).tolist())


def test_what_was_measured_is_not_scaled():
    """An LLM of the first file that the history lacks: outcomes tell what it costs, at the new price too."""
    plan = replace(doubled().plan, measured={"a": [99, 0.5, 3e-3]})
    aligned = align(("b",), plan).apply(Estimates(np.array([[0.4]]), np.array([[1e-3]])))
    assert aligned.cost.tolist() == [[3e-3, 1e-3]]
    known = align(MODELS, plan).apply(Estimates(np.array([[0.4, 0.4]]), np.array([[1e-3, 1e-3]])))
    assert known.cost.tolist() == [[2e-3, 1e-3]]
