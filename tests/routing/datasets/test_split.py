"""Random split of a data set into queries and history."""

import numpy as np
import pytest

from routing.datasets.split import split_rows


def test_split_rows_returns_each_row_once():
    queries, history = split_rows(120, 40, seed=3)
    assert len(queries) == 40
    assert sorted([*queries, *history]) == list(range(120))


def test_split_rows_follows_the_permutation_of_the_published_experiments():
    queries, history = split_rows(120, 40, seed=3)
    order = np.random.default_rng(3).permutation(120)
    assert np.concatenate([queries, history]).tolist() == order.tolist()


@pytest.mark.parametrize("queries", [0, 120, -1])
def test_split_rows_without_queries_or_history_raises(queries):
    with pytest.raises(ValueError, match=r"queries: .* must be between 1 and 119"):
        split_rows(120, queries, seed=0)
