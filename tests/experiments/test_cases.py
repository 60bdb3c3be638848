"""Splits, cases, and the cache of estimates."""

from dataclasses import dataclass

import numpy as np
import pytest

from experiments.cases import Case, Split
from routing.estimators.base import Estimates
from routing.history.history import History


@dataclass(frozen=True)
class Lengths:
    """Source that gives one estimate for each query of the test set."""

    key: str = "lengths"

    def make(self, split):
        n = len(split.test)
        return Estimates(np.full((n, 2), 0.5), np.full((n, 2), 1e-3)), None


def test_split_estimates_of_two_cuts_of_one_permutation_are_cached_apart(tmp_path):
    rows = 12
    data = History(
        ids=[str(i) for i in range(rows)],
        prompts=["Why?"] * rows,
        tasks=["t"] * rows,
        models=("a", "b"),
        quality=np.full((rows, 2), 0.5),
        cost=np.full((rows, 2), 1e-3),
    )
    vectors = np.eye(rows, 3, dtype=np.float32) + 1
    for queries in (4, 8):
        split = Split.of(data, vectors, "test", queries, seed=0, cache=tmp_path)
        assert len(split.estimates(Lengths())[0]) == queries


def test_split_of_takes_the_first_rows_of_the_permutation_as_test_set(data):
    history, vectors = data
    split = Split.of(history, vectors, "made", 200, seed=3)
    order = np.random.default_rng(3).permutation(700)
    np.testing.assert_array_equal(split.test, order[:200])
    np.testing.assert_array_equal(split.past, order[200:])
    case = Case.of(split)
    assert case.budgets.sum() == pytest.approx(history.cost[order[:200]].sum(0).min())
    weight = np.sqrt(history.quality[order[200:]].mean(0) / history.cost[order[200:]].mean(0))
    np.testing.assert_allclose(case.budgets / case.budgets.sum(), weight / weight.sum())
    sorted_ = Case.of(split, order="task")
    tasks = [history.tasks[i] for i in split.test[sorted_.rows]]
    assert tasks == sorted(tasks)


def test_split_of_too_long_a_history_raises(data):
    with pytest.raises(ValueError, match="history: 501 must be 1 to 500"):
        Split.of(*data, "made", 200, seed=0, history=501)
    assert len(Split.of(*data, "made", 200, seed=0, history=500).past) == 500
