"""Price solves of the planner: their times, their inputs, and a successor that continues them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.budgets.money import to_pico
from routing.planning.lp_prices import solve_lp
from routing.planning.planner import Planner
from routing.planning.samples import MAX_RETAINED_SAMPLES
from routing.planning.schedule import PlanningSettings
from tests.routing.planning.small_planner import (
    BUDGETS,
    HISTORY,
    MODELS,
    arrived,
    learn,
    make_planner,
    random_estimates,
    same_prices,
    solved_at,
)


@pytest.mark.parametrize(
    ("horizon", "eps", "queries"),
    [(1000, 0.025, 25), (10_000, 0.025, 250), (1001, 0.025, 26), (3, 0.01, 1), (7, 1.0, 7)],
)
def test_first_solve_is_due_after_eps_n_queries_rounded_up(horizon, eps, queries):
    assert PlanningSettings(horizon=horizon, eps=eps).warmup_queries == queries


@pytest.mark.parametrize(
    ("warmup", "resolve", "at"),
    [
        ("buffer", "once", [20]),
        ("random", "once", [20]),
        ("history", "once", []),
        ("buffer", "geometric", [20, 40, 80, 160, 320]),
        ("history", "geometric", [20, 40, 80, 160, 320]),
        ("buffer", "every", [20, 120, 220, 320, 340, 360, 380]),
        ("random", "every", [20, 120, 220, 320, 340, 360, 380]),
        ("history", "every", [100, 200, 300]),
    ],
)
def test_solves_happen_at_the_scheduled_samples(warmup, resolve, at):
    planner = make_planner(
        warmup=warmup, resolve=resolve, resolve_every=100, resolve_late=20, history=HISTORY, solver="newton"
    )
    if warmup == "history":
        assert planner.plan.learned
        assert planner.plan.version == 1
    else:
        assert not planner.plan.learned
        assert planner.plan.until == 20
    plans = learn(planner, random_estimates(400))
    assert solved_at(plans) == at
    first = 1 if warmup == "history" else 0
    assert [plan.version for plan in plans] == [first + 1 + number for number in range(len(at))]
    # The plan says to lanes in lockstep when the next solve is due; after the last there is none.
    assert [plan.until for plan in plans] == [*at[1:], None][: len(at)]
    assert planner.plan.until is None


def test_first_solve_equals_the_papers():
    planner = make_planner(horizon=100, eps=0.2)
    sample = random_estimates(20)
    plan = learn(planner, sample)[0]
    exact = solve_lp(sample.quality, sample.cost, BUDGETS * 20 / 100)
    assert plan.prices == pytest.approx(exact.prices)
    assert plan.learned


def test_later_solve_uses_remaining_budget_and_horizon():
    planner = make_planner(horizon=100, eps=0.2, resolve="geometric")
    estimates = random_estimates(40)
    learn(planner, estimates.rows(slice(0, 20)))
    spent = to_pico(np.array([0.005, 0.03, 0.02]))
    planner.record_account(0, arrived(40, charged=spent))
    plan = planner.observe(estimates.rows(slice(20, 40)))[0]
    left = np.maximum(BUDGETS - np.array([0.005, 0.03, 0.02]), 0)
    exact = solve_lp(estimates.quality, estimates.cost, left * 40 / 60)
    assert plan.prices == pytest.approx(exact.prices)


def test_warmup_history_prices_use_its_share_of_the_budget():
    planner = make_planner(warmup="history", history=HISTORY)
    exact = solve_lp(HISTORY.quality, HISTORY.cost, BUDGETS * len(HISTORY) / 400)
    assert planner.plan.prices == pytest.approx(exact.prices)
    assert planner.plan.learned


def test_resolve_every_uses_the_window_topped_up_with_history():
    planner = make_planner(
        horizon=1000, eps=0.03, resolve="every", resolve_every=30, resolve_window=50, history=HISTORY
    )
    estimates = random_estimates(90)
    plans = learn(planner, estimates)
    assert solved_at(plans) == [30, 60, 90]
    assert [plan.solved_from.rows for plan in plans] == [50, 50, 50]
    budgets = BUDGETS * 50 / (1000 - 90)
    exact = solve_lp(estimates.quality[-50:], estimates.cost[-50:], budgets)
    assert plans[-1].prices == pytest.approx(exact.prices)


def test_early_solve_uses_fewer_samples():
    planner = make_planner()
    assert planner.solve(early=True) is None, "nothing to solve on"
    planner.observe(random_estimates(7))
    assert planner.solve() is None
    plan = planner.solve(early=True)
    assert plan is not None
    assert (plan.learned, plan.solved_from.observed, plan.until) == (True, 7, None)
    assert planner.observe(random_estimates(30)) == []


def test_early_solve_does_not_stop_later_solves():
    planner = make_planner(resolve="geometric")
    planner.observe(random_estimates(7))
    assert planner.solve(early=True).until == 40
    planner.record_account(0, arrived(300))
    assert solved_at(planner.observe(random_estimates(200))) == [40, 80, 160]


def test_samples_of_waiting_queries_are_queued_until_decided():
    """A lane in warm-up samples far ahead; a later solve must know the charges until then."""
    planner = make_planner(resolve="geometric")
    estimates = random_estimates(400)
    assert solved_at(planner.observe(estimates)) == [20]
    assert planner.solve_due() == []
    plans = []
    for count in (39, 40, 200):
        planner.record_account(0, arrived(count))
        plans.append(solved_at(planner.solve_due()))
    assert plans == [[], [40], [80, 160]]
    planner.record_account(0, arrived(400))
    assert solved_at(planner.solve_due()) == [320]


def test_settings_invalid_values_raise():
    for options in ({"horizon": 0}, {"horizon": 9, "eps": 0.0}, {"horizon": 9, "resolve_every": 0}):
        with pytest.raises(ValueError, match=next(reversed(options))):
            PlanningSettings(**options)
    with pytest.raises(ValueError, match="history"):
        Planner(PlanningSettings(horizon=9, warmup="history"), MODELS, BUDGETS)


FORMS = [
    {"resolve": "once"},
    {"resolve": "geometric", "solver": "newton"},
    {"warmup": "random", "resolve": "geometric", "solver": "newton"},
    {
        "warmup": "history",
        "resolve": "every",
        "resolve_every": 60,
        "resolve_late": 15,
        "resolve_window": 90,
        "solver": "newton",
        "history": HISTORY,
    },
    {
        "warmup": "buffer",
        "resolve": "every",
        "resolve_every": 60,
        "resolve_window": 40,
        "solver": "newton",
        "history": HISTORY,
        "mix": "remaining",
    },
]


@pytest.mark.parametrize("form", FORMS)
@given(cuts=st.lists(st.integers(1, 399), max_size=12))
@settings(max_examples=15)
def test_observe_any_batches_lead_to_the_same_plans(form, cuts):
    estimates = random_estimates(400)
    plans_at_once = learn(make_planner(**form), estimates)
    assert plans_at_once or form["resolve"] == "once"
    assert same_prices(learn(make_planner(**form), estimates, sorted(cuts)), plans_at_once)


def test_observe_more_samples_than_retained_do_not_depend_on_batches():
    estimates = random_estimates(MAX_RETAINED_SAMPLES * 2)
    form = {"horizon": 10**6, "eps": 0.01, "resolve": "geometric", "solver": "newton"}
    one, other = make_planner(**form), make_planner(**form)
    plans = learn(one, estimates)
    assert same_prices(learn(other, estimates, [3, 9_000, 20_001, 30_000]), plans)
    assert [plan.solved_from.rows for plan in plans] == [10_000, 20_000, MAX_RETAINED_SAMPLES]


@pytest.mark.parametrize("form", FORMS)
def test_resume_by_another_planner_keeps_the_prices(form):
    """Replace the planner after each of its plans: the next one reads the period's samples again."""
    estimates = random_estimates(400)
    plans = learn(make_planner(**form), estimates)
    for number, last in enumerate(plans):
        successor = make_planner(**form)
        successor.resume(last)
        assert successor.plan is last, "the plan in force is not solved again"
        assert same_prices(learn(successor, estimates), plans[number + 1 :])


def test_resume_keeps_mean_costs():
    planner = make_planner(horizon=100, eps=0.2)
    plan = learn(planner, random_estimates(20))[0]
    successor = make_planner(horizon=100, eps=0.2)
    successor.resume(plan)
    assert successor.history_rows.mean_cost == pytest.approx(planner.history_rows.mean_cost)
    assert (successor.history_rows.mean_cost > 1e7).all()
