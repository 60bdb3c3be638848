"""Estimates kept between runs: never those of another division of the data."""

from dataclasses import dataclass

import numpy as np

from experiments.split import Split
from routing.estimators.base import Estimates
from routing.history import History


@dataclass(frozen=True)
class Lengths:
    """A source whose estimates tell how long the test set was."""

    key: str = "lengths"

    def make(self, split):
        n = len(split.test)
        return Estimates(np.full((n, 2), 0.5), np.full((n, 2), 1e-3)), None


def test_two_cuts_of_one_permutation_are_two_divisions(tmp_path):
    rows = 12
    data = History(
        ids=[str(i) for i in range(rows)], prompts=["Why?"] * rows, tasks=["t"] * rows, models=("a", "b"),
        quality=np.full((rows, 2), 0.5), cost=np.full((rows, 2), 1e-3),
    )  # fmt: skip
    vectors = np.eye(rows, 3, dtype=np.float32) + 1
    for queries in (4, 8):
        split = Split.of(data, vectors, "test", queries, seed=0, cache=tmp_path)
        assert len(split.estimates(Lengths())[0]) == queries
