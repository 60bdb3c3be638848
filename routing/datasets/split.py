"""Random split of a data set into queries and history."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def split_rows(rows: int, queries: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the rows of a data set as the published experiments do.

    Parameters
    ----------
    rows : int
        Length of the data set.
    queries : int
        N, the rows that become queries.
    seed : int
        Of numpy's `default_rng`. The first N rows of its permutation are the queries, in that order.

    Returns
    -------
    queries : ndarray of int, shape [queries]
    history : ndarray of int, shape [rows - queries]

    Raises
    ------
    ValueError
        No row is left for the history, or no query is asked for.

    Examples
    --------
    >>> split_rows(4, 3, seed=0)
    (array([2, 0, 1]), array([3]))
    """
    if not 0 < queries < rows:
        raise ValueError(f"queries: {queries} must be between 1 and {rows - 1}, for the rest is the history")
    order = np.random.default_rng(seed).permutation(rows)
    return order[:queries], order[queries:]
