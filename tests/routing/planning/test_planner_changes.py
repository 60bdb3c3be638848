"""New periods, catalogues and measurements in the planner."""

from dataclasses import replace

import numpy as np
import pytest

from routing.budgets.money import to_pico
from routing.planning.lp_prices import solve_lp
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from tests.routing.planning.small_planner import (
    BUDGETS,
    HISTORY,
    MODELS,
    arrived,
    learn,
    make_planner,
    random_estimates,
    solved_at,
)


def test_start_period_resets_grants_and_keeps_prices():
    planner = make_planner(horizon=100, eps=0.2)
    plan = learn(planner, random_estimates(50))[0]
    planner.record_account(0, arrived(100, charged=to_pico(BUDGETS)))
    new = planner.start_period()
    assert (new.period, new.version, new.learned) == (2, plan.version, True)
    assert new.prices == pytest.approx(plan.prices)
    assert (new.granted[0] == to_pico(BUDGETS)).all()
    assert (new.until, planner.arrived, planner.observed) == (20, 0, 0)
    planner.record_account(0, arrived(120))
    assert planner.arrived == 0, "of the period before"
    # the new period's samples alone
    sample = random_estimates(20, seed=5)
    planner.record_account(0, arrived(20, period=2))
    assert solved_at(planner.observe(sample)) == [20]
    exact = solve_lp(sample.quality, sample.cost, BUDGETS * 20 / 80)
    assert planner.plan.prices == pytest.approx(exact.prices)


def test_revisions_increase():
    planner = make_planner(lanes=2, overflow=True, resolve="geometric")
    revisions = [planner.plan.revision]
    for round_ in range(1, 30):
        planner.record_account(round_ % 2, replace(planner.accounts[round_ % 2], arrived=round_))
        planner.observe(random_estimates(5, seed=round_))
        revisions.append(planner.update_grants().revision)
    revisions.append(planner.start_period().revision)
    assert revisions == sorted(revisions)
    assert len(set(revisions)) > 5


def test_start_period_keeps_learned_prices_and_recomputes_those_of_the_history():
    form = {"warmup": "history", "history": HISTORY, "resolve": "every", "resolve_every": 30}
    planner = make_planner(horizon=100, **form)
    first = planner.plan
    planner.apply_catalogue(1, MODELS, 2 * BUDGETS)
    again = planner.start_period()
    assert again.version == first.version + 1, "no prices were learned, and the budgets differ"
    assert again.prices != pytest.approx(first.prices)
    planner.record_account(0, arrived(30, period=2))
    (learned,) = planner.observe(random_estimates(30))
    for period in (3, 4):
        new = planner.start_period()
        assert (new.period, new.version, new.learned) == (period, learned.version, True)
        assert new.prices == pytest.approx(learned.prices)
    successor = make_planner(horizon=100, **form)
    successor.resume(new)
    assert successor.start_period().prices == pytest.approx(learned.prices)


def test_solve_in_a_timed_period_uses_the_expected_queries():
    now = [0.0]
    planner = Planner(
        PlanningSettings(horizon=100, eps=0.2, period_seconds=60.0, resolve="geometric"),
        MODELS,
        BUDGETS,
        clock=lambda: now[0],
    )
    planner.start_period()
    assert planner.expected_remaining == 100
    now[0] = 30.0
    planner.record_account(0, arrived(150))
    assert planner.expected_remaining == pytest.approx(100), (
        "half of the period is over: 150 arrived and 50 expected have equal weight"
    )
    sample = random_estimates(20)
    (plan,) = planner.observe(sample)
    exact = solve_lp(sample.quality, sample.cost, BUDGETS * 20 / 100)
    assert plan.prices == pytest.approx(exact.prices)
    # More queries than expected: prices are still learned.
    assert solved_at(planner.observe(random_estimates(140))) == [40, 80]
    planner.record_account(0, arrived(400))
    assert solved_at(planner.solve_due()) == [160]
    now[0] = 61.0
    assert planner.expected_remaining == 0


def test_apply_catalogue_adds_llms_at_the_end_and_closes_missing_ones():
    planner = make_planner(horizon=100, eps=0.2, history=HISTORY, resolve="every")
    learn(planner, random_estimates(20))
    plan = planner.apply_catalogue(3, ("a", "d", "c"), np.array([0.01, 0.04, 0.01]))
    assert plan.models == ("a", "b", "c", "d")
    assert plan.active.tolist() == [True, False, True, True]
    assert plan.budgets.tolist() == to_pico([0.01, 0.05, 0.01, 0.04]).tolist()
    # The lane gives back grants of the closed LLM and of the lowered budget.
    account = planner.accounts[0].released_to(plan.granted[0], plan.target[0])
    assert account.available(plan.granted[0]).tolist() == to_pico([0.01, 0.0, 0.01, 0.04]).tolist()
    assert plan.prices[3] > 0
    # Prices are learned again; the history's rows have no values for the new LLM.
    planner.record_account(0, arrived(40).widened(4))
    assert planner.observe(random_estimates(20, seed=3, models=4))[0].prices.shape == (4,)


def test_start_period_drops_the_budget_of_removed_llms():
    planner = make_planner(horizon=100)
    plan = planner.apply_catalogue(1, ("a", "c"), np.array([0.02, 0.01]))
    assert plan.budgets[1] == to_pico(BUDGETS)[1]
    assert planner.start_period().budgets.tolist() == to_pico(np.array([0.02, 0.0, 0.01])).tolist()
    back = planner.apply_catalogue(2, MODELS, BUDGETS)
    assert back.budgets.tolist() == to_pico(BUDGETS).tolist()
    assert back.active.all()


@pytest.mark.parametrize("resolve", ["once", "geometric"])
def test_apply_catalogue_amid_a_period_stops_no_lane(resolve):
    """The planner knows of 20 queries, the lane has decided 35: samples of those are ignored."""
    planner = make_planner(horizon=400, eps=0.05, resolve=resolve)
    learn(planner, random_estimates(20))
    decided = 35
    plan = planner.apply_catalogue(1, ("a", "b", "c", "d"), np.append(BUDGETS, 0.1))
    assert plan.until - decided > 20, "the lane goes on"
    plans = []
    for seed in range(60):
        if (room := planner.plan.until - decided if planner.plan.until is not None else 10) <= 0:
            break
        count = min(10, room)
        decided += count
        planner.record_account(0, arrived(decided).widened(4))
        plans += planner.observe(random_estimates(count, seed=seed, models=4))
        if seed == 0:
            assert planner.plan.until == 35 + 20, "counted from the lane's first sample under the new plan"
    assert decided >= 400, "the lane was never stopped indefinitely"
    assert solved_at(plans) == ([20] if resolve == "once" else [20, 40, 80, 160, 320])


def test_resume_unanchored_counts_from_the_first_sample():
    planner = make_planner(horizon=400, eps=0.05, resolve="geometric")
    learn(planner, random_estimates(20))
    plan = planner.apply_catalogue(1, ("a", "b", "c", "d"), np.append(BUDGETS, 0.1))
    successor = make_planner(horizon=400, eps=0.05, resolve="geometric")
    successor.resume(plan)
    successor.record_account(0, arrived(45).widened(4))
    successor.observe(random_estimates(10, models=4))
    assert successor.plan.until == 35 + 20


def test_resume_with_another_catalogue_uses_the_llms_of_the_plan():
    planner = make_planner(horizon=100, eps=0.2, history=HISTORY, resolve="every", lanes=2, overflow=True)
    plan = planner.apply_catalogue(3, ("c", "d", "a"), np.array([0.01, 0.04, 0.01]))
    successor = Planner(
        planner.settings, ("c", "d", "a"), np.ones(3), lanes=2, overflow=True, history=random_estimates(60)
    )
    successor.resume(plan)
    successor.record_account(0, replace(Account.fresh(1, 4), arrived=3))
    assert successor.update_grants().granted.shape == (3, 4)
    assert successor.history_rows.rows is not None
    assert (
        successor.history_rows.rows.quality[:, 0].tolist()
        != successor.history_rows.rows.quality[:, 2].tolist()
    )
    assert not successor.history_rows.rows.quality[:, 1].any(), "b is not in its catalogue"
    assert len(successor.observe(random_estimates(20, models=4))) == 1


def test_record_measurements_comparable_llm_gets_a_price():
    planner = make_planner(horizon=100, eps=0.2)
    learn(planner, random_estimates(20))
    planner.apply_catalogue(1, (*MODELS, "d"), np.append(BUDGETS, 0.1))
    learn(planner, random_estimates(20, models=4))
    version = planner.plan.version
    planner.record_measurements({"d": [29, 0.5, 1e-3]})
    assert planner.plan.until is None
    planner.record_measurements({"d": [30, 0.5, 1e-3]})
    assert planner.plan.until is not None
    planner.record_account(0, arrived(60).widened(4))
    assert planner.observe(random_estimates(20, models=4))[0].version == version + 1
