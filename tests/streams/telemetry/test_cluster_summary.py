"""Cluster summary."""

from dataclasses import replace

import numpy as np
import pytest

from routing.policy.price_origin import PriceOrigin
from streams.planner.warmup import WarmupWait
from streams.telemetry.cluster_summary import summarise_cluster
from tests.streams.sample_cluster import ints, make_account, make_ledger, make_ledgers, make_plan


def test_summarise_cluster_with_two_lanes_sums_money():
    overview = summarise_cluster(make_plan(), make_ledgers(), now=1100.0)
    small, large = overview.models

    assert (small.budget, small.granted, small.charged) == (10, 10, 4)
    assert (small.settled, small.reserved, small.left) == (2, 2, 6)
    assert (large.granted, large.charged, large.settled, large.left) == (19, 6, 0, 14)
    for model in overview.models:
        assert model.reserved + model.settled == pytest.approx(model.charged)
        assert model.charged + model.left == pytest.approx(model.budget)


def test_summarise_cluster_counts_queries_of_the_period_once():
    overview = summarise_cluster(make_plan(), make_ledgers(), now=1100.0)

    assert (overview.arrived, overview.served, overview.unserved) == (41, 38, 3)
    assert overview.served + overview.unserved == overview.arrived
    # 30 of the first were routed and 12 settled
    assert [model.unanswered for model in overview.models] == [18, 8]
    assert (overview.deferred, overview.dead) == (1, 2)
    assert overview.outcomes == {"settled": 12, "late": 1}


def test_summarise_cluster_with_a_lane_ahead_includes_its_closed_account():
    ledgers = make_ledgers()
    ledgers[1] = make_ledger(1, make_account(4), closed=ledgers[1].account)

    assert summarise_cluster(make_plan(), ledgers, now=1100.0).arrived == 41


def test_summarise_cluster_with_outcomes_returns_errors_of_estimates():
    small, large = summarise_cluster(make_plan(), make_ledgers(), now=1100.0).models

    assert small.cost_error == pytest.approx(2 / 3 - 1)  # reserved 5, open 2: 3 were reserved for what cost 2
    assert small.reported == 10
    assert small.quality_reported == pytest.approx(0.7)
    assert small.quality_estimated == pytest.approx(0.6)
    assert (large.cost_error, large.quality_reported) == (None, None)


def test_summarise_cluster_returns_progress_by_queries_or_by_time():
    assert summarise_cluster(make_plan(), make_ledgers(), now=0.0).progress == pytest.approx(0.41)
    timed = make_plan(ends_at=1400.0)
    assert summarise_cluster(timed, {}, now=1100.0).progress == pytest.approx(0.25)
    assert summarise_cluster(timed, {}, now=900.0).progress == 0


def test_summarise_cluster_with_added_llms_includes_them():
    plan = make_plan()
    wide = make_plan(
        models=(*plan.models, "new"),
        active=plan.active.repeat(2)[:3],
        budgets=plan.budgets.repeat(2)[:3],
        prices=plan.prices.repeat(2)[:3],
        granted=plan.granted.repeat(2, axis=1)[:, :3],
    )

    assert summarise_cluster(wide, make_ledgers(), now=0.0).models[2].served == 0


def test_summarise_cluster_counts_unanswered_queries_of_past_periods_until_they_expire():
    plan, ledgers = make_plan(), make_ledgers()
    past = make_account(2, served=ints(7, 0), settlements=ints(1, 0), lapsed=ints(2, 0))
    ledgers[1] = make_ledger(1, ledgers[1].account, closed=past)

    assert summarise_cluster(plan, ledgers, now=1100.0).models[0].unanswered == 18 + 4


def test_summarise_cluster_with_a_removed_llm_keeps_its_spending():
    small, large = summarise_cluster(
        make_plan(active=np.array([True, False])), make_ledgers(), now=0.0
    ).models
    assert (small.budget, small.left) == (10, 6)
    assert (large.budget, large.left) == (6, 0)


def test_summarise_cluster_during_warm_up_returns_its_progress():
    waiting = PriceOrigin(warmup="buffer", warmup_seconds=5.0)
    plan = make_plan(learned=False, until=250, solved_from=waiting)
    ledgers = {0: make_ledger(0, make_account(), next=7, sampled=19), 1: make_ledger(1, make_account())}
    wait = summarise_cluster(plan, ledgers, now=0.0).warmup
    assert wait == WarmupWait(12, 250, 5.0)
    assert str(wait) == (
        "warm-up: the router waits for 250 queries to learn prices from, at most 5 s after the first"
    )
    assert summarise_cluster(make_plan(solved_from=waiting), ledgers, now=0.0).warmup is None
    random = make_plan(learned=False, until=250, solved_from=replace(waiting, warmup="random"))
    assert summarise_cluster(random, ledgers, now=0.0).warmup is None
    amid = make_plan(learned=False, until=2**62, solved_from=waiting)
    assert summarise_cluster(amid, {}, now=0.0).warmup == WarmupWait(0, None, 5.0)
