"""Routing rule: vectorised choice against one query at a time, ties, unserved and deferred queries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.policy.decision import DEFERRED, UNSERVED, Exhausted, choose, choose_random, random_keys


def one_by_one(score, charge, available, exhausted):
    left, choice = available.copy(), []
    for s, c in zip(score, charge, strict=True):
        s = np.where(c <= left, s, -np.inf) if exhausted is Exhausted.NEXT_BEST else s
        if s.max() <= 1e-6:
            choice.append(UNSERVED)
            continue
        i = int(np.flatnonzero(s >= s.max() - 1e-6)[0])
        if c[i] > left[i]:
            choice.append(DEFERRED)
            continue
        left[i] -= c[i]
        choice.append(i)
    return choice


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 5), st.sampled_from(list(Exhausted)))
def test_choose_batch_equals_one_query_at_a_time(seed, n, models, exhausted):
    rng = np.random.default_rng(seed)
    score = rng.integers(-2, 6, (n, models)) / 5 + rng.integers(-3, 4, (n, models)) * 4e-7
    charge = rng.integers(0, 9, (n, models))
    available = rng.integers(0, 4 * n, models)
    expected = one_by_one(score, charge, available, exhausted)
    assert choose(score, charge, available, exhausted).tolist() == expected


def test_choose_ties_go_to_the_first_llm():
    score = np.array([[0.5, 0.5 + 9e-7], [0.5, 0.5 + 2e-6]])
    assert choose(score, np.ones((2, 2), int), np.array([9, 9])).tolist() == [0, 1]


def test_choose_score_not_positive_is_unserved():
    score = np.array([[0.0, -1.0], [1e-7, 0.0]])
    assert choose(score, np.ones((2, 2), int), np.array([9, 9])).tolist() == [UNSERVED, UNSERVED]


def test_choose_never_returns_a_closed_llm():
    score = np.array([[-np.inf, -np.inf], [-np.inf, 0.2]])
    assert choose(score, np.zeros((2, 2), int), np.array([9, 9])).tolist() == [UNSERVED, 1]


def test_choose_zero_budgets_defer_or_leave_unserved():
    score, charge, none = np.full((3, 2), 0.5), np.ones((3, 2), int), np.zeros(2, int)
    assert choose(score, charge, none).tolist() == [UNSERVED] * 3
    assert choose(score, charge, none, Exhausted.DEFER).tolist() == [DEFERRED] * 3


def test_choose_random_depends_on_offsets_only_and_stays_within_budget():
    charge = np.ones((1000, 3), int)
    keys = random_keys(7, 2, np.arange(1000))
    choice = choose_random(keys, charge, np.array([9999, 100, 9999]), np.array([True, True, True]))
    assert np.array_equal(random_keys(7, 2, np.arange(500, 600)), keys[500:600])
    counts = np.bincount(choice, minlength=3)
    assert counts[1] == 100
    assert counts[0] == pytest.approx(counts[2], rel=0.25)
    assert not np.array_equal(random_keys(8, 2, np.arange(1000)), keys)
