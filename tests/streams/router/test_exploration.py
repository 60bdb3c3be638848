"""Exploration: the same queries measure an LLM on any lane, and it is compared after enough answers."""

import numpy as np
import pytest

from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.alignment import MIN_REPORTED_ANSWERS, align
from streams.router.batch import (
    IntakeBatch,
)
from streams.router.exploration import (
    choose_explorations,
)
from tests.streams.memory_topics import settings_of
from tests.streams.sample_cluster import MODELS, make_plan

COUNT = 400
WIDE = (*MODELS, "new")
SETTINGS = settings_of(exploration=0.2)


def plan_with(answers: int):
    none = np.zeros((3, 3), dtype=np.int64)
    return make_plan(
        models=WIDE,
        active=np.ones(3, bool),
        prices=np.zeros(3),
        budgets=np.ones(3, np.int64),
        granted=none,
        target=none,
        measured={"new": [answers, 0.9, 0.001]},
    )


def arrivals(sources=None) -> IntakeBatch:
    return IntakeBatch([], [], Estimates(np.zeros((COUNT, 3)), np.ones((COUNT, 3))), sources=sources)


def explored(*arguments) -> np.ndarray:
    explorations = choose_explorations(*arguments, QueryTerms())
    assert explorations is not None
    return explorations.model


def test_choose_explorations_of_deferred_query_equals_its_own_lane():
    plan, offsets = plan_with(0), np.arange(COUNT)
    charge = np.ones((COUNT, 3), dtype=np.int64)
    own = explored(SETTINGS, plan, align(MODELS, plan), arrivals(), 1, offsets, charge)
    assert set(own) == {-1, 2}
    assert 0.1 < (own == 2).mean() < 0.3
    deferred = arrivals([(1, int(offset)) for offset in offsets])
    pool = explored(SETTINGS, plan, align(None, plan), deferred, 2, offsets + 77, charge)
    np.testing.assert_array_equal(pool, own)


def test_choose_explorations_of_older_deferred_query_skips_new_llm():
    charge = np.ones((COUNT, 3), dtype=np.int64)
    charge[:200, 2] = 0
    deferred = arrivals([(0, offset) for offset in range(COUNT)])
    plan = plan_with(0)
    pool = explored(SETTINGS, plan, align(None, plan), deferred, 2, np.arange(COUNT), charge)
    assert (pool[:200] == -1).all()
    assert (pool[200:] == 2).any()


def test_align_compares_llm_only_after_enough_answers():
    for source in (MODELS, None):
        assert align(source, plan_with(MIN_REPORTED_ANSWERS - 1)).comparable.tolist() == [True, True, False]
        assert align(source, plan_with(MIN_REPORTED_ANSWERS)).comparable.all()
        plan, charge = plan_with(MIN_REPORTED_ANSWERS), np.ones((COUNT, 3), dtype=np.int64)
        enough, offsets = align(source, plan), np.arange(COUNT)
        arguments = (plan, enough, arrivals(), 0, offsets, charge, QueryTerms())
        assert choose_explorations(SETTINGS, *arguments) is None
        explorations = choose_explorations(settings_of(exploration=0.2, exploration_budget=0.5), *arguments)
        assert explorations is not None
        # a budget of one picodollar for 100 queries, half of it for exploration
        assert explorations.share[0].tolist() == pytest.approx([0.005] * 3)
    # once the history covers the LLM, the history counts
    assert align(WIDE, plan_with(0)).comparable.all()
