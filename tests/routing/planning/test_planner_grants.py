"""Grants of the planner in the course of a period."""

from dataclasses import replace

import numpy as np

from routing.budgets.money import to_pico
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.planning.traffic import MIN_ROUNDS_FOR_PACE
from tests.routing.planning.small_planner import (
    BUDGETS,
    MODELS,
    make_planner,
    released,
)


def test_grants_go_to_the_pool_after_all_queries_arrived():
    """A burst that ends within one grant round must not send the grants back to lanes."""
    planner = make_planner(lanes=4, overflow=True, horizon=1000)
    for look in range(1, 11):
        for lane in range(4):
            planner.record_account(lane, replace(planner.accounts[lane], arrived=5 * look))
        planner.update_grants()
    for lane in range(4):
        planner.record_account(lane, replace(planner.accounts[lane], arrived=250, deferred=250))
    planner.update_grants()
    assert (planner.expected_remaining, planner.decided) == (0, 0)
    assert not planner.plan.target[:4].any()


def test_update_grants_small_changes_keep_the_plan():
    planner = make_planner(lanes=2, overflow=True, horizon=10**6)
    for look in range(1, 9):
        for lane in range(2):
            planner.record_account(lane, replace(planner.accounts[lane], arrived=10**5 + 100 * look))
        planner.record_account(2, released(planner, 2))
        planner.update_grants()
    plan = planner.plan
    assert plan.target[:2].any()
    planner.record_account(0, replace(planner.accounts[0], charged=plan.target[0] // 50, arrived=10**5 + 900))
    assert planner.update_grants() is plan
    planner.record_account(0, replace(planner.accounts[0], charged=plan.target[0] // 2, arrived=10**5 + 1000))
    assert planner.update_grants() is not plan


def test_grants_are_in_the_pool_at_the_beginning_and_the_end():
    planner = make_planner(lanes=4, overflow=True, horizon=1000)
    assert not planner.plan.target[:4].any()
    assert (planner.plan.granted[4] == to_pico(BUDGETS)).all()
    targets = []
    for look in range(1, 51):
        for lane in range(4):
            account = released(planner, lane)
            planner.record_account(lane, replace(account, arrived=5 * look))
        planner.record_account(4, released(planner, 4))
        planner.update_grants()
        targets.append(int(planner.plan.target[:4].sum()))
        come, left = 20 * look, 1000 - 20 * look
        maximum = to_pico(BUDGETS).sum() * come / max(left, 1)
        assert targets[-1] <= maximum, "at most the share of the queries that arrived"
    assert not any(targets[: MIN_ROUNDS_FOR_PACE - 1]), "a burst begins like any other traffic"
    assert targets[MIN_ROUNDS_FOR_PACE - 1] > 0, "lanes get grants as soon as their pace is known"
    assert targets[-5] == 0, "lanes give grants back while there is time to move them"


def test_resume_keeps_grants():
    planner = make_planner(lanes=4, overflow=True, horizon=1000)
    for look in range(1, 11):
        for lane in range(4):
            account = released(planner, lane)
            planner.record_account(lane, replace(account, arrived=10 * look))
        planner.record_account(4, released(planner, 4))
        planner.update_grants()
    accounts = list(planner.accounts)
    successor = make_planner(lanes=4, overflow=True, horizon=1000)
    successor.resume(planner.plan)
    for lane, account in enumerate(accounts):
        successor.record_account(lane, account)
    before = successor.plan
    assert np.abs(successor.update_grants().target - before.target).max() <= 0.01 * to_pico(BUDGETS).max()


def test_update_grants_without_changes_returns_the_same_plan():
    planner = make_planner(lanes=2, overflow=True)
    plan = planner.update_grants()
    assert planner.update_grants() is plan
    assert planner.record_measurements({}) is plan


def test_grants_of_a_timed_period_go_to_the_pool_at_its_end():
    now = [0.0]
    planner = Planner(
        PlanningSettings(horizon=100, period_seconds=100.0),
        MODELS,
        BUDGETS,
        lanes=2,
        overflow=True,
        clock=lambda: now[0],
    )
    planner.start_period()
    targets = []
    for second in range(100):
        now[0] = float(second)
        for lane in range(2):
            account = released(planner, lane)
            planner.record_account(lane, replace(account, arrived=10 * second))
        planner.record_account(2, released(planner, 2))
        planner.update_grants()
        targets.append(int(planner.plan.target[:2].sum()))
    assert targets[50] > 0, "twenty times the expected queries arrived, and as many are expected"
    assert targets[-2] == 0
