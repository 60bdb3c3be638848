"""The planner with budgets of all kinds: new values, periods, rates, catalogues, raised limits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routing.budgets.budget import Budget
from routing.budgets.money import PICO
from routing.budgets.terms import QueryTerms
from routing.feedback.plan_correction import corrected, offsets_of
from routing.planning.counter_prices import CounterPricing
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.policy import route
from tests.routing.planning.small_planner import HISTORY, MODELS, random_estimates

TOTAL = Budget("total", limit=0.05)
TEAM = Budget("team", group_by="metadata.team", limits={"a": 0.02}, default=0.01, max_values=5)
RATE = Budget("rate", "queries", limit=60, per="minute", burst=10)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_planner(budgets, *, clock=None, lanes=1, overflow=False, **options) -> Planner:
    form = {"horizon": 400, "warmup": "history", "resolve": "every", "resolve_every": 50, "solver": "newton"}
    return Planner(
        PlanningSettings(**(form | options)),
        MODELS,
        budgets,
        lanes=lanes,
        overflow=overflow,
        history=HISTORY,
        clock=clock or Clock(),
    )


def routed(planner: Planner, account: Account, n: int, team: str, lane: int = 0) -> Account:
    estimates = random_estimates(n, seed=n)
    terms = QueryTerms(values={"metadata.team": [team] * n})
    account = route(account, planner.plan, lane, estimates, np.arange(n), terms=terms).account
    planner.record_account(lane, account)
    planner.observe(estimates, terms)
    return account


def test_budgets_per_llm_lead_to_the_same_plans_as_their_amounts():
    amounts = np.array([0.02, 0.05, 0.01])
    as_budgets = tuple(Budget(n, limit=b, models=(n,)) for n, b in zip(MODELS, amounts.tolist(), strict=True))
    plans = [a_planner(form).start_period() for form in (amounts, as_budgets)]

    assert plans[0].per_llm
    assert plans[1].per_llm
    np.testing.assert_array_equal(plans[0].prices, plans[1].prices)
    np.testing.assert_array_equal(plans[0].granted, plans[1].granted)


def test_values_are_listed_with_the_grants_that_lanes_assumed():
    planner = a_planner((TOTAL, TEAM))
    planner.start_period()
    before = len(planner.plan.counters)
    account = routed(planner, Account.fresh(0, 3), 30, "new")
    available = account.available(planner.plan.lane_columns(0, account.counters).granted)

    plan = planner.update_grants()

    assert plan.counters.names[before:] == ("team=new",)
    np.testing.assert_array_equal(account.aligned(plan.counters).available(plan.granted[0]), available)
    assert plan.prices[before] > 0


def test_values_beyond_the_maximum_share_the_counter_other():
    planner = a_planner((TOTAL, TEAM))
    planner.start_period()
    account = Account.fresh(0, 3)
    for name in ("b", "c", "d", "e", "f", "g"):
        account = routed(planner, account, 3, name)
        planner.update_grants()

    assert planner.plan.counters.names == ("total", "team=a", "team=", "team=other", "team=b", "team=c")
    assert account.seen[planner.plan.counters.column_of["team", "other"]] == 4 * 3


def test_a_new_period_keeps_used_values_and_their_prices():
    planner = a_planner((TOTAL, TEAM))
    planner.start_period()
    routed(planner, Account.fresh(0, 3), 60, "new")
    planner.update_grants()
    price = planner.plan.prices[planner.plan.counters.column_of["team", "new"]]

    plan = planner.start_period()

    column = plan.counters.column_of["team", "new"]
    assert plan.period == 2
    assert plan.prices[column] == price
    assert plan.budgets[column] == 0.01 * PICO
    assert (plan.granted[0] == plan.budgets).all()
    third = planner.start_period()
    assert ("team", "new") not in third.counters.keys


def test_a_counter_of_one_lane_is_granted_to_it_whole():
    planner = a_planner((TEAM,), lanes=4, overflow=True)
    planner.start_period()
    lane, pool = Account.fresh(0, 3), Account.fresh(0, 3)
    for _ in range(3):
        lane = routed(planner, lane, 40, "a", lane=2)
        plan = planner.update_grants()
        pool = route(pool, plan, 4, HISTORY.rows(slice(0)), np.arange(0)).account
        planner.record_account(4, pool)
    plan = planner.update_grants()

    column = plan.counters.column_of["team", "a"]
    assert lane.aligned(plan.counters).available(plan.granted[2])[column] + lane.charged[column] > 0
    assert plan.granted[2, column] == plan.budgets[column]
    assert plan.granted[:, column].sum() - pool.released[column] <= plan.budgets[column]
    unknown = plan.counters.column_of["team", "other"]
    assert plan.granted[:, unknown].tolist() == [0, 0, 0, 0, int(0.2 * plan.budgets[unknown])]


def test_a_rate_grows_to_its_burst_and_goes_on_in_the_next_period():
    clock = Clock()
    planner = a_planner((TOTAL, RATE), clock=clock)
    assert planner.start_period().budgets[1] == 10
    account = routed(planner, Account.fresh(0, 3), 8, "")
    drawn = int(account.charged[1])
    assert drawn > 3
    for second, limit in ((0.5, 10), (3.0, 13), (90.0, drawn + 10)):
        clock.now = second
        assert planner.update_grants().budgets[1] == limit

    planner.start_period()

    # All grants were the lane's, so the next period's rate begins empty.
    assert planner.plan.budgets[1] == 0
    clock.now += 2.5
    assert planner.update_grants().granted[0, 1] == 2


def test_a_catalogue_adds_and_removes_budgets():
    planner = a_planner((TOTAL, TEAM))
    planner.start_period()
    account = routed(planner, Account.fresh(0, 3), 30, "a")
    assert account.charged[0] > 0
    other = Budget("openai", models=("a", "d"), limit=0.01)

    plan = planner.apply_catalogue(1, (*MODELS, "d"), (other, replace(TEAM, limits={"a": 0.03, "z": 0.02})))

    assert plan.models == (*MODELS, "d")
    assert plan.counters.names == ("total", "team=a", "team=", "team=other", "openai", "team=z")
    assert plan.open.tolist() == [False, True, True, True, True, True]
    assert plan.budgets[1] == 0.03 * PICO
    # Nothing draws on a removed budget any more.
    estimates = random_estimates(20, seed=3, models=4)
    after = route(account, plan, 0, estimates, np.arange(20), terms=QueryTerms()).account
    assert after.charged[0] == account.charged[0]
    assert after.arrived == 50


def test_from_budgets_per_llm_to_a_shared_total_within_a_period():
    planner = a_planner(np.array([0.02, 0.05, 0.01]))
    planner.start_period()
    estimates = random_estimates(40, seed=1)
    account = route(Account.fresh(0, 3), planner.plan, 0, estimates, np.arange(40)).account
    planner.record_account(0, account)

    plan = planner.apply_catalogue(1, MODELS, (TOTAL,))

    assert plan.counters.names == (*MODELS, "total")
    assert plan.open.tolist() == [False, False, False, True]
    after = route(account, plan, 0, estimates, np.arange(40)).account
    assert after.charged[:3].tolist() == account.charged.tolist()
    assert 0 < after.charged[3] <= plan.budgets[3]


@pytest.mark.parametrize("budgets", [np.array([0.02, 0.05, 0.01]), (TOTAL, TEAM)], ids=["llms", "shared"])
def test_a_top_up_raises_a_limit_once_and_for_the_rest_of_the_period(budgets: Any) -> None:
    planner = a_planner(budgets)
    before = planner.start_period()
    name, limit = before.counters.names[1], int(before.budgets[1])

    planner.top_up({name: 5 * PICO, "unknown": 7})
    planner.top_up({name: 5 * PICO, "unknown": 7})

    plan = planner.plan
    assert plan.budgets[1] == limit + 5 * PICO
    assert plan.granted[0, 1] == plan.budgets[1]
    planner.top_up({name: 6 * PICO})
    assert planner.plan.budgets[1] == limit + 6 * PICO
    assert planner.plan.topped_up == {name: 6 * PICO}

    # It stays under another catalogue of the same budgets, and ends with the period.
    assert planner.apply_catalogue(1, MODELS, budgets).budgets[1] == limit + 6 * PICO
    after = planner.start_period()
    assert after.budgets.tolist() == before.budgets.tolist()
    assert not after.topped_up


def test_a_top_up_of_a_rate_or_of_a_removed_budget_changes_nothing() -> None:
    rate = Budget("rate", unit="queries", limit=60, per="minute")
    planner = a_planner((TOTAL, TEAM, rate))
    planner.start_period()
    plan = planner.apply_catalogue(1, MODELS, (TEAM, rate))

    planner.top_up({"rate": 5, "total": 5})

    assert planner.plan is plan


def test_a_planner_that_takes_over_does_not_top_up_again() -> None:
    planner, successor = a_planner((TOTAL, TEAM)), a_planner((TOTAL, TEAM))
    planner.start_period()
    planner.top_up({"team=a": PICO})

    successor.resume(planner.plan)
    successor.top_up({"team=a": PICO})

    assert successor.plan is planner.plan


def test_samples_with_weights_and_eligible_llms_change_the_prices_of_llms():
    estimates = random_estimates(100, seed=5)
    prices = {}
    for name, terms in (
        ("plain", QueryTerms()),
        ("heavy", QueryTerms(weight=np.full(100, 3.0))),
        ("closed", QueryTerms(eligible=np.tile([True, False, True], (100, 1)))),
    ):
        planner = Planner(PlanningSettings(horizon=400, eps=0.25, top_up_samples=False), MODELS, (TOTAL,))
        planner.start_period()
        planner.observe(estimates, terms)
        prices[name] = planner.plan.prices[0]

    assert prices["heavy"] == pytest.approx(3 * prices["plain"], rel=1e-3)
    assert prices["closed"] != prices["plain"]


@pytest.mark.parametrize("budgets", [(TOTAL,), (TOTAL, TEAM), np.array([0.02, 0.05, 0.01])])
def test_prices_are_solved_on_estimates_corrected_by_reported_quality(budgets):
    plan = a_planner(budgets).start_period()
    evidence = {MODELS[0]: [[40.0], [-20.0], [0.0], [0.0]]}
    learned = plan.changed(correction=evidence)
    uncorrected = replace(random_estimates(200, seed=4), cluster=np.zeros(200, np.int64))
    by_hand = corrected(uncorrected, offsets_of(evidence, MODELS))

    def prices(of, estimates):
        counters = len(of.counters)
        pricing = CounterPricing("exact", of, np.zeros(counters, np.int64), np.ones(counters), None)
        return pricing.prices(estimates, None, 200, (200, QueryTerms()), 400.0)

    np.testing.assert_array_equal(prices(learned, uncorrected), prices(plan, by_hand))
    assert (prices(learned, uncorrected) != prices(plan, uncorrected)).any()
