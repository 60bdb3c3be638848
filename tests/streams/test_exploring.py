"""LLMs without a history: the same queries measure them on any lane; compared when enough is known."""

from dataclasses import replace

import numpy as np
import pytest

from routing.account import Account
from routing.alignment import ENOUGH, align
from routing.estimators.base import Estimates
from streams.exploring import list_cost, measured, to_explore
from streams.intake import Arrivals
from streams.ledger import LedgerRecord
from tests.streams.cluster_made_up import MODELS, make_plan
from tests.streams.kept_in_memory import settings_of

COUNT = 400
WIDE = (*MODELS, "new")
SETTINGS = settings_of(exploration=0.2)


def plan_with(answers: int):
    none = np.zeros((3, 3), dtype=np.int64)
    return make_plan(
        models=WIDE, active=np.ones(3, bool), prices=np.zeros(3), budgets=np.ones(3, np.int64), granted=none,
        target=none, measured={"new": [answers, 0.9, 0.001]},
    )  # fmt: skip


def arrivals(sources=None) -> Arrivals:
    return Arrivals([], [], Estimates(np.zeros((COUNT, 3)), np.ones((COUNT, 3))), sources=sources)


def test_a_deferred_query_measures_what_it_would_have_measured_on_its_own_lane():
    plan, offsets = plan_with(0), np.arange(COUNT)
    charge = np.ones((COUNT, 3), dtype=np.int64)
    own = to_explore(SETTINGS, align(MODELS, plan), arrivals(), 1, offsets, charge)
    assert set(own) == {-1, 2}
    assert 0.1 < (own == 2).mean() < 0.3
    deferred = arrivals([(1, int(offset)) for offset in offsets])
    pool = to_explore(SETTINGS, align(None, plan), deferred, 2, offsets + 77, charge)
    np.testing.assert_array_equal(pool, own)


def test_what_was_deferred_before_an_llm_came_does_not_measure_it():
    charge = np.ones((COUNT, 3), dtype=np.int64)
    charge[:200, 2] = 0
    deferred = arrivals([(0, offset) for offset in range(COUNT)])
    pool = to_explore(SETTINGS, align(None, plan_with(0)), deferred, 2, np.arange(COUNT), charge)
    assert (pool[:200] == -1).all()
    assert (pool[200:] == 2).any()


def test_an_llm_is_compared_on_no_lane_before_enough_is_known_and_on_each_after():
    for source in (MODELS, None):
        assert align(source, plan_with(ENOUGH - 1)).comparable.tolist() == [True, True, False]
        assert align(source, plan_with(ENOUGH)).comparable.all()
        enough = align(source, plan_with(ENOUGH))
        assert to_explore(SETTINGS, enough, arrivals(), 0, np.arange(COUNT), np.ones((COUNT, 3))) is None
    # a history that covers it by now is what counts
    assert align(WIDE, plan_with(0)).comparable.all()


def test_what_an_llm_cost_is_known_when_both_periods_that_ledgers_hold_are_without_it():
    """It fell back to the list price, which an LLM that nobody could compare need not even have."""
    said = {"new": [40, 30.0, 28.0, 0.08]}
    ledger = replace(LedgerRecord.fresh(0), models=WIDE, account=Account.fresh(5, 3), reported=said)
    found = measured(["new"], {}, {0: ledger})
    assert found["new"] == [40, pytest.approx(0.75), pytest.approx(0.002)]
    lately = replace(ledger.account, settled=np.array([0, 0, 30 * 10**9]), settlements=np.array([0, 0, 10]))
    assert measured(["new"], {}, {0: replace(ledger, account=lately)})["new"][2] == pytest.approx(0.003)
    assert measured(["new"], {}, {})["new"] == [0, 0, list_cost(None)]
