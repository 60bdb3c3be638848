"""Routing of a batch: the result equals routing its queries one by one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.budgets.money import PICO, to_pico
from routing.estimators.base import Estimates
from routing.policy.account import Account
from routing.policy.decision import DEFERRED, UNSERVED
from routing.policy.exploration import Exploration, equal_shares
from routing.policy.plan import Plan
from routing.policy.policy import enter_period, must_wait_for_prices, route

NONE = np.zeros((0, 2))


def a_plan(granted, *, overflow: bool = False, **fields) -> Plan:
    granted = np.array(granted, dtype=np.int64)
    models = granted.shape[1]
    plain = {
        "period": 1,
        "version": 1,
        "revision": 1,
        "models": tuple("abcdef"[:models]),
        "active": np.ones(models, dtype=bool),
        "budgets": granted.sum(0),
        "prices": np.zeros(models),
        "learned": True,
        "granted": granted,
        "target": granted,
        "overflow": overflow,
        "horizon": 100,
    }
    return Plan(**(plain | fields))


def estimates(quality, cost) -> Estimates:
    return Estimates(np.array(quality, dtype=float), np.array(cost, dtype=float))


cases = st.tuples(
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(0, 2**32),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1.5),
)


@given(cases, st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=150)
def test_route_batch_equals_its_parts(case, cuts):
    n, models, seed, overflow, learned, scarcity = case
    random = np.random.default_rng(seed)
    quality, cost = random.random((n, models)).round(1), random.uniform(1e-4, 1e-3, (n, models)).round(4)
    grants = to_pico(scarcity * cost.sum(0) / models * random.random(models))
    granted = np.vstack([grants, grants * 2])
    plan = a_plan(
        granted,
        overflow=overflow,
        learned=learned,
        prices=random.uniform(0, 800, models),
        target=granted - granted // 3,
        active=random.random(models) < 0.8,
    )
    all_of_it = Estimates(quality, cost)
    decisions = route(Account.fresh(1, models), plan, 0, all_of_it, np.arange(n), seed=seed)
    account, choice, charge = Account.fresh(1, models), [], []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), n], strict=True):
        rows = slice(min(start, n), min(stop, n))
        part = route(account, plan, 0, all_of_it.rows(rows), np.arange(n)[rows], seed=seed)
        account = part.account
        choice += part.choice.tolist()
        charge += part.charge.tolist()
    assert decisions.choice.tolist() == choice
    assert decisions.charge.tolist() == charge
    assert decisions.account.charged.tolist() == account.charged.tolist()
    assert decisions.account.released.tolist() == account.released.tolist()
    assert (decisions.account.available(granted[0]) >= 0).all()
    assert not np.isin(decisions.choice, np.flatnonzero(~plan.active)).any()


def test_route_chooses_the_best_score_or_leaves_unserved():
    plan = a_plan([[PICO, PICO]], prices=np.array([10.0, 0.0]))
    ask = estimates([[0.9, 0.8], [0.8, 0.7], [0.1, 0.0]], [[0.02, 1e-6], [0.01, 1e-6], [0.01, 1e-6]])
    routed = route(Account.fresh(1, 2), plan, 0, ask, np.arange(3))
    assert routed.choice.tolist() == [1, 0, UNSERVED]
    assert routed.charge.tolist() == [10**6, 10**10, 0]


def test_route_best_cannot_pay_takes_next_best_or_defers():
    ask = estimates([[0.9, 0.5], [0.9, 0.5]], [[0.6, 0.1], [0.6, 0.1]])
    alone = route(Account.fresh(1, 2), a_plan([[PICO, PICO]]), 0, ask, np.arange(2))
    assert alone.choice.tolist() == [0, 1]
    shared = a_plan([[PICO, PICO], [0, PICO]], overflow=True)
    assert route(Account.fresh(1, 2), shared, 0, ask, np.arange(2)).choice.tolist() == [0, DEFERRED]
    assert route(Account.fresh(1, 2), shared, 1, ask, np.arange(2)).choice.tolist() == [1, 1]


def test_route_worthless_query_is_not_deferred():
    shared = a_plan([[0], [0]], overflow=True, prices=np.array([100.0]))
    ask = estimates([[0.5]], [[0.01]])
    assert route(Account.fresh(1, 1), shared, 0, ask, np.arange(1)).choice.tolist() == [UNSERVED]


def test_route_random_warmup_is_uniform_and_depends_on_offsets():
    plan = a_plan([[PICO, PICO, PICO]], learned=False, active=np.array([True, False, True]))
    n = 4000
    ask = Estimates(np.full((n, 3), 0.5), np.full((n, 3), 1e-6))
    one = route(Account.fresh(1, 3), plan, 0, ask, np.arange(n), seed=3)
    assert np.bincount(one.choice, minlength=3) / n == pytest.approx([0.5, 0, 0.5], abs=0.03)
    again = route(Account.fresh(1, 3), plan, 0, ask.rows(slice(0, 50)), np.arange(n)[1000:1050], seed=3)
    assert again.choice.tolist() == one.choice[1000:1050].tolist()
    other = route(Account.fresh(1, 3), plan, 0, ask, np.arange(n), seed=4)
    assert other.choice.tolist() != one.choice.tolist()


def test_route_random_warmup_defers_what_its_lane_cannot_pay():
    plan = a_plan([[10**6], [PICO]], learned=False, overflow=True)
    ask = Estimates(np.full((3, 1), 0.5), np.full((3, 1), 1e-6))
    assert route(Account.fresh(1, 1), plan, 0, ask, np.arange(3)).choice.tolist() == [0, DEFERRED, DEFERRED]


def test_route_reserves_the_given_charge():
    plan = a_plan([[25]])
    ask = estimates([[0.5]] * 3, [[1e-12]] * 3)
    charge = np.full((3, 1), 10, dtype=np.int64)
    routed = route(Account.fresh(1, 1), plan, 0, ask, np.arange(3), charge=charge)
    assert routed.choice.tolist() == [0, 0, UNSERVED]
    assert routed.account.reserved.tolist() == [20]


def test_route_empty_batch_releases_grants():
    plan = a_plan([[100, 50]], target=np.array([[30, 50]]))
    routed = route(Account.fresh(1, 2), plan, 0, Estimates(NONE, NONE), np.zeros(0, np.int64))
    assert routed.account.released.tolist() == [70, 0]
    assert routed.account.arrived == 0


def test_route_incomparable_llm_is_chosen_by_exploration_only():
    plan = a_plan([[PICO, PICO]])
    ask = estimates([[0.2, 0.9]] * 3, [[1e-6, 1e-6]] * 3)
    comparable = np.array([True, False])
    explore = Exploration(np.array([-1, 1, -1]), equal_shares(3, 2, np.array([1]), 0.1))
    routed = route(Account.fresh(1, 2), plan, 0, ask, np.arange(3), comparable=comparable, explore=explore)
    assert routed.choice.tolist() == [0, 1, 0]
    closed = replace(plan, active=np.array([True, False]))
    routed = route(Account.fresh(1, 2), closed, 0, ask, np.arange(3), comparable=comparable, explore=explore)
    assert routed.choice.tolist() == [0, 0, 0]


def test_enter_period_new_returns_empty_account_and_old_raises():
    plan = a_plan([[5, 5]], period=2)
    spent = replace(Account.fresh(1, 2), arrived=7)
    assert (enter_period(spent, plan).period, enter_period(spent, plan).arrived) == (2, 0)
    assert enter_period(Account.fresh(2, 1), plan).charged.tolist() == [0, 0], "an LLM was added"
    with pytest.raises(ValueError, match="period 2 is older"):
        enter_period(Account.fresh(3, 2), plan)


@pytest.mark.parametrize(
    ("learned", "warmup", "expected"),
    [(False, "buffer", True), (True, "buffer", False), (False, "random", False), (True, "history", False)],
)
def test_must_wait_for_prices_only_in_buffer_warmup(learned, warmup, expected):
    assert must_wait_for_prices(a_plan([[1]], learned=learned), warmup) is expected
