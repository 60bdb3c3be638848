"""Which queries a replay sends, in which order and under which ids, with their true answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routing.estimators.base import FloatArray
from routing.history import History


@dataclass(frozen=True)
class Asked:
    """The queries of one replay, in the order of sending.

    Parameters
    ----------
    data : History
        The prepared queries.
    rows : ndarray of int, shape [n]
        The row of each query sent; a row may be sent more than once.
    """

    data: History
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ids(self) -> list[str]:
        """The data set's id of each query; one that is sent again has the number of the round in it.

        Examples
        --------
        >>> data = History(["a"], ["?"], [""], ["m"], [[1]], [[1]])
        >>> Asked(data, np.array([0, 0])).ids
        ['a', 'a#2']
        """
        rounds = np.zeros(len(self.data), np.int64)
        ids = []
        for row in self.rows:
            rounds[row] += 1
            ids.append(self.data.ids[row] if rounds[row] == 1 else f"{self.data.ids[row]}#{rounds[row]}")
        return ids

    @cached_property
    def places(self) -> dict[str, int]:
        """By id: which of those sent it is."""
        return {identity: number for number, identity in enumerate(self.ids)}

    @cached_property
    def prompts(self) -> list[str]:
        """The prompts, length n."""
        return [self.data.prompts[row] for row in self.rows]

    @cached_property
    def quality(self) -> FloatArray:
        """True quality of every LLM, [n, M]."""
        return self.data.quality[self.rows]

    @cached_property
    def cost(self) -> FloatArray:
        """True cost of every LLM in USD, [n, M]."""
        return self.data.cost[self.rows]


def ask(data: History, order: str, seed: int = 0, limit: int | None = None, repeat: int = 1) -> Asked:
    """Which queries to send.

    Parameters
    ----------
    data : History
    order : {"file", "random", "task"}
        As they are, shuffled, or task after task.
    seed : int
        Of "random".
    limit : int, optional
        Only the first, in that order.
    repeat : int
        All of it so many times.
    """
    if order == "random":
        rows = np.random.default_rng(seed).permutation(len(data))
    elif order == "task":
        rows = np.argsort(np.array(data.tasks), kind="stable")
    else:
        rows = np.arange(len(data))
    return Asked(data, np.tile(rows[:limit], repeat))
