"""Upper bound of a query's cost, for reservations that the actual cost cannot exceed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.budgets.money import MAX_USD, to_pico

TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add to a prompt."""


def bound_charges(
    tokens: FloatArray,
    max_tokens: Sequence[int | None],
    input_prices: FloatArray,
    output_prices: FloatArray,
    default_max_tokens: int,
) -> IntArray:
    """Return the maximum cost of queries: prompt tokens and `max_tokens` at list prices.

    Parameters
    ----------
    tokens : ndarray of float64, shape [n]
        Maximum number of prompt tokens, including those of the template.
    max_tokens : sequence of int or None, length n
        Maximum tokens of the answer. None means the default, which the fleet must enforce.
    input_prices, output_prices : ndarray of float64, shape [M]
        USD per million tokens.
    default_max_tokens : int

    Returns
    -------
    ndarray of int64, shape [n, M]
        Picodollars.

    Examples
    --------
    >>> bound_charges(np.array([100.0]), [100], np.array([1.0]), np.array([2.0]), 1).tolist()
    [[300000000]]
    """
    answers = np.array([default_max_tokens if limit is None else limit for limit in max_tokens], np.float64)
    usd = tokens[:, None] * input_prices + answers[:, None] * output_prices
    # An amount above every possible budget needs no exact value.
    return to_pico(np.minimum(usd / 1e6, MAX_USD))
