"""Money as integer picodollars: sums over topics are exact in any order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

PICO = 10**12
"""Picodollars in one US dollar. int64 holds budgets up to 9.2 million USD per LLM and period."""

MAX_USD = 9.0e6


def to_pico(usd: ArrayLike) -> NDArray[np.int64]:
    """Return whole picodollars, rounded up: a charge is never below its amount.

    Parameters
    ----------
    usd : array_like of float
        US dollars, each in [0, `MAX_USD`].

    Returns
    -------
    ndarray of int64, same shape

    Raises
    ------
    ValueError
        An amount is negative, not finite or above `MAX_USD`.

    Examples
    --------
    >>> int(to_pico(1.5e-6))
    1500000
    """
    amount = np.asarray(usd, dtype=np.float64)
    if not np.all((amount >= 0) & (amount <= MAX_USD)):
        raise ValueError(f"usd: {amount} must be finite, not negative and at most {MAX_USD:.0f} USD")
    pico = amount * PICO
    # In binary, 1.5e-6 USD is 1500000.0000000002 picodollars; 1500000 is meant.
    rounded = np.rint(pico)
    is_integer = np.abs(pico - rounded) <= np.maximum(1e-6, 2.5e-16 * pico)
    return np.where(is_integer, rounded, np.ceil(pico)).astype(np.int64)


def read_pico(usd: ArrayLike) -> NDArray[np.int64]:
    """Return the picodollars of an amount from `to_usd`; exact up to 1,000 USD, which covers a query's cost.

    Examples
    --------
    >>> int(read_pico(float(to_usd(123456789012345))))
    123456789012345
    """
    return np.rint(np.asarray(usd, dtype=np.float64) * PICO).astype(np.int64)


def to_usd(pico: ArrayLike) -> NDArray[np.float64]:
    """Return US dollars.

    Examples
    --------
    >>> float(to_usd(1500000))
    1.5e-06
    """
    return np.asarray(pico, dtype=np.int64) / PICO
