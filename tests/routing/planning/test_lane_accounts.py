"""Accounts of the lanes, and the queries they show."""

import numpy as np
import pytest

from routing.planning.lp_prices import solve_lp
from tests.routing.planning.small_planner import BUDGETS, HISTORY, arrived, make_planner, random_estimates


def test_record_account_ignores_other_periods_and_older_states():
    planner = make_planner(lanes=2, overflow=True)
    planner.record_account(0, arrived(5))
    planner.record_account(1, arrived(7))
    planner.record_account(0, arrived(3))
    planner.record_account(1, arrived(70, period=2))
    assert planner.arrived == 12
    assert planner.accounts[0].arrived == 5


def test_traffic_does_not_depend_on_the_order_of_lanes():
    planner = make_planner(lanes=3, overflow=True, horizon=10**6)
    for look in range(1, 4):
        for lane in range(3):
            planner.record_account(lane, arrived(5000 * look))
        planner.update_grants()
    recent = planner.traffic.recent
    assert recent == pytest.approx(np.full(3, recent[0]))
    one, two, three, _ = planner.plan.target.sum(1).tolist()
    assert max(one, two, three) - min(one, two, three) <= 9


def test_decided_includes_rejected_queries_of_the_overflow_lane():
    planner = make_planner(lanes=2, overflow=True)
    planner.record_account(0, arrived(5, deferred=3))
    planner.record_account(2, arrived(2, dead=1))
    assert (planner.decided, planner.deferred_backlog) == (5, 0)


def test_deferred_backlog_counts_the_worthless_queries_around_it():
    """Lanes do not defer worthless queries, so each deferred query stands for several arrivals."""
    planner = make_planner(
        lanes=1, overflow=True, horizon=400, warmup="history", resolve="every", history=HISTORY
    )
    planner.record_account(0, arrived(400, unserved=300, deferred=100))
    assert (planner.expected_remaining, planner.decided) == (0, 300)
    assert planner.deferred_backlog == pytest.approx(400)
    planner.observe(random_estimates(250))
    sample = random_estimates(250)
    exact = solve_lp(
        np.concatenate([sample.quality, planner.history_rows.rows.quality]),
        np.concatenate([sample.cost, planner.history_rows.rows.cost]),
        BUDGETS * 310 / 400,
    )
    assert planner.plan.prices == pytest.approx(exact.prices)


def test_decided_counts_deferred_queries_on_the_overflow_lane():
    planner = make_planner(lanes=2, overflow=True)
    planner.record_account(0, arrived(5, deferred=2))
    planner.record_account(1, arrived(3, deferred=3))
    assert (planner.arrived, planner.decided) == (8, 3)
    planner.record_account(2, arrived(4))
    assert (planner.arrived, planner.decided) == (8, 7)
