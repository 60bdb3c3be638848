"""The cluster in numbers: sums over lanes, of the plan's period only."""

import pytest

from streams.overview import survey
from tests.streams.cluster_made_up import make_account, make_ledger, make_ledgers, make_plan


def test_money_is_summed_over_lanes_and_adds_up():
    overview = survey(make_plan(), make_ledgers(), now=1100.0)
    small, large = overview.models

    assert (small.budget, small.granted, small.charged) == (10, 10, 4)
    assert (small.settled, small.reserved, small.left) == (2, 2, 6)
    assert (large.granted, large.charged, large.settled, large.left) == (19, 6, 0, 14)
    for model in overview.models:
        assert model.reserved + model.settled == pytest.approx(model.charged)
        assert model.charged + model.left == pytest.approx(model.budget)


def test_queries_are_counted_once_and_those_of_other_periods_not():
    overview = survey(make_plan(), make_ledgers(), now=1100.0)

    assert (overview.arrived, overview.served, overview.unserved) == (41, 38, 3)
    assert overview.served + overview.unserved == overview.arrived
    assert (overview.deferred, overview.dead) == (1, 2)
    assert overview.outcomes == {"settled": 12, "late": 1}


def test_a_lane_that_is_in_the_next_period_still_counts_with_its_closed_account():
    ledgers = make_ledgers()
    ledgers[1] = make_ledger(1, make_account(4), closed=ledgers[1].account)

    assert survey(make_plan(), ledgers, now=1100.0).arrived == 41


def test_errors_of_estimates():
    small, large = survey(make_plan(), make_ledgers(), now=1100.0).models

    assert small.cost_error == pytest.approx(2 / 3 - 1)  # reserved 5, open 2: 3 were reserved for what cost 2
    assert small.reported == 10
    assert small.quality_reported == pytest.approx(0.7)
    assert small.quality_estimated == pytest.approx(0.6)
    assert (large.cost_error, large.quality_reported) == (None, None)


def test_progress_by_queries_or_by_time():
    assert survey(make_plan(), make_ledgers(), now=0.0).progress == pytest.approx(0.41)
    assert survey(make_plan(), {}, now=1100.0, period_seconds=400).progress == pytest.approx(0.25)
    assert survey(make_plan(), {}, now=900.0, period_seconds=400).progress == 0


def test_models_that_were_added_since_a_lanes_last_transaction():
    plan = make_plan()
    wide = make_plan(
        models=(*plan.models, "new"), active=plan.active.repeat(2)[:3], budgets=plan.budgets.repeat(2)[:3],
        prices=plan.prices.repeat(2)[:3], granted=plan.granted.repeat(2, axis=1)[:, :3],
    )  # fmt: skip

    assert survey(wide, make_ledgers(), now=0.0).models[2].served == 0
