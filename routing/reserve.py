"""What a query reserves of a budget: its estimated cost, or a bound that its real cost cannot pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routing.decision import IntArray
from routing.estimators.base import FloatArray
from routing.money import MAX_USD, to_pico

TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add to a prompt."""


def bound_charges(
    tokens: FloatArray,
    max_tokens: Sequence[int | None],
    input_prices: FloatArray,
    output_prices: FloatArray,
    default_max_tokens: int,
) -> IntArray:
    """Prompt tokens and `max_tokens` at list price: what a query costs at most.

    Parameters
    ----------
    tokens : ndarray of float64, shape [n]
        Prompt tokens at most, the template's among them.
    max_tokens : sequence of int or None, length n
        Most tokens of the answer; None takes the default, which the fleet must then keep to as well.
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
    answers = np.array([default_max_tokens if most is None else most for most in max_tokens], np.float64)
    usd = tokens[:, None] * input_prices + answers[:, None] * output_prices
    # more than any budget is too much, however much more
    return to_pico(np.minimum(usd / 1e6, MAX_USD))
