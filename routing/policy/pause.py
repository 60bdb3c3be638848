"""Pauses of LLMs: which queries may go to an LLM that fails, or that an operator has paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Pause:
    """A pause of one LLM.

    Parameters
    ----------
    reason : str
        For people.
    since : float
        Seconds since the epoch.
    until : float or None
        Seconds since the epoch at which the next step follows; None: without a time limit.
    share : float
        Share of the queries that test the LLM; 0: none.
    backoff : float
        Seconds that the LLM was closed for before the tests; doubled when a test fails. 0 if the pause has
        another reason than failures.
    """

    reason: str
    since: float
    until: float | None = None
    share: float = 0.0
    backoff: float = 0.0


def paused_columns(paused: Mapping[str, Pause], models: Sequence[str]) -> NDArray[np.bool_]:
    """Return the LLMs that are paused, shape [M]."""
    return np.array([name in paused for name in models], dtype=np.bool_)


def admitted(
    paused: Mapping[str, Pause], models: Sequence[str], keys: NDArray[np.uint64]
) -> NDArray[np.bool_] | None:
    """Return the LLMs that each query may go to, [n, M]; None if no LLM is paused.

    Parameters
    ----------
    paused : mapping of str to Pause
        By LLM.
    models : sequence of str, length M
    keys : ndarray of uint64, shape [n]
        Random keys of the queries, which choose those that test an LLM.

    Examples
    --------
    >>> keys = np.array([0, 2**63], dtype=np.uint64)
    >>> admitted({"b": Pause("failed", 0.0, share=0.25)}, ("a", "b"), keys).tolist()
    [[True, True], [True, False]]
    """
    if not paused:
        return None
    allowed = np.ones((len(keys), len(models)), dtype=np.bool_)
    for column, name in enumerate(models):
        if (pause := paused.get(name)) is not None:
            allowed[:, column] = (keys >> np.uint64(11)) < np.uint64(pause.share * 2**53)
    return allowed


def tests(paused: Mapping[str, Pause], models: Sequence[str], allowed: NDArray[np.bool_]) -> IntArray:
    """Return the paused LLM that each query tests, or -1, shape [n].

    Parameters
    ----------
    paused : mapping of str to Pause
    models : sequence of str, length M
    allowed : ndarray of bool, shape [n, M]
        From `admitted`.
    """
    testing = allowed & paused_columns(paused, models)
    return np.where(testing.any(1), testing.argmax(1), -1).astype(np.int64)


def test_shares(paused: Mapping[str, Pause], models: Sequence[str]) -> FloatArray:
    """Return the share of the queries that test each LLM, shape [M]; 0 for LLMs that are not paused.

    Examples
    --------
    The first of two paused LLMs takes the tests that both could have:

    >>> both = {"a": Pause("failed", 0.0, share=0.25), "b": Pause("failed", 0.0, share=0.5)}
    >>> test_shares(both, ("a", "b", "c")).tolist()
    [0.25, 0.25, 0.0]
    """
    shares, claimed_share = np.zeros(len(models)), 0.0
    for column, name in enumerate(models):
        if (pause := paused.get(name)) is not None:
            shares[column] = max(0.0, pause.share - claimed_share)
            claimed_share = max(claimed_share, pause.share)
    return shares
