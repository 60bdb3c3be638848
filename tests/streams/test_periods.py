"""Summaries of periods: sums over lanes, and budgets as they were."""

from dataclasses import replace

import numpy as np

from streams.periods import decode_period, encode_period, summarise
from tests.streams.cluster_made_up import MODELS, USD, make_ledger, make_ledgers, make_plan


def test_a_period_is_the_sum_of_its_lanes_and_survives_the_wire():
    last, current = summarise(make_plan(), make_ledgers())
    assert (last.period, last.arrived, last.charged) == (2, 99, [9 * USD, 0])
    assert (current.period, current.closed) == (3, False)
    assert current.arrived == 41, "the deferred one is counted where it was decided"
    assert current.charged == [4 * USD, 6 * USD]
    assert current.budgets == [10 * USD, 20 * USD]
    assert decode_period(encode_period(current)) == current


def test_a_period_is_closed_when_every_lane_has_left_it():
    ledgers = make_ledgers()
    assert summarise(make_plan(), ledgers)[0].closed
    behind = replace(ledgers[2].account, period=2)
    assert not summarise(make_plan(), ledgers | {2: make_ledger(2, behind)})[0].closed


def test_another_catalogue_does_not_change_the_budgets_of_a_closed_period():
    none = np.zeros((3, 3), dtype=np.int64)
    plan = make_plan(
        models=(*MODELS, "new"), active=np.ones(3, bool), prices=np.zeros(3), granted=none, target=none,
        budgets=np.array([1 * USD, 40 * USD, 5 * USD]),
    )  # fmt: skip
    last, current = summarise(plan, make_ledgers(), [10 * USD, 20 * USD])
    assert last.budgets == [10 * USD, 20 * USD, 0], "an LLM that was added later had none"
    assert current.budgets == [1 * USD, 40 * USD, 5 * USD]
