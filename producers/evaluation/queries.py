"""The queries of a replay: their order, ids and true answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routing.arrays import (
    FloatArray,
)
from routing.budgets.budget import EMPTY, value_of
from routing.budgets.terms import QueryTerms
from routing.history.history import History


@dataclass(frozen=True)
class ReplayQueries:
    """The queries of one replay, in the order of sending.

    Parameters
    ----------
    data : History
        The prepared queries.
    rows : ndarray of int, shape [n]
        Row of each query sent; a row can be sent more than once.
    """

    data: History
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ids(self) -> list[str]:
        """Id of each query in the data set; a repeated query has the number of its round appended.

        Examples
        --------
        >>> data = History(["a"], ["?"], [""], ["m"], [[1]], [[1]])
        >>> ReplayQueries(data, np.array([0, 0])).ids
        ['a', 'a#2']
        """
        rounds = np.zeros(len(self.data), np.int64)
        ids = []
        for row in self.rows:
            rounds[row] += 1
            ids.append(self.data.ids[row] if rounds[row] == 1 else f"{self.data.ids[row]}#{rounds[row]}")
        return ids

    @cached_property
    def index_by_id(self) -> dict[str, int]:
        """Index of each query in the order of sending, by id."""
        return {identity: number for number, identity in enumerate(self.ids)}

    @cached_property
    def prompts(self) -> list[str]:
        """Prompts, length n."""
        return [self.data.prompts[row] for row in self.rows]

    @cached_property
    def terms(self) -> QueryTerms:
        """Values that budgets can be grouped by: the task, which messages carry as `metadata.task`."""
        tasks = self.data.tasks
        return QueryTerms(values={"metadata.task": [value_of(tasks[row]) or EMPTY for row in self.rows]})

    @cached_property
    def quality(self) -> FloatArray:
        """True quality of every LLM, [n, M]."""
        return self.data.quality[self.rows]

    @cached_property
    def cost(self) -> FloatArray:
        """True cost of every LLM in USD, [n, M]."""
        return self.data.cost[self.rows]


def select_queries(
    data: History, order: str, seed: int = 0, limit: int | None = None, repeat: int = 1
) -> ReplayQueries:
    """Return the queries to send.

    Parameters
    ----------
    data : History
    order : {"file", "random", "task"}
        Order of the data set, shuffled, or by task.
    seed : int
        Seed of "random".
    limit : int, optional
        Number of queries to send, in that order.
    repeat : int
        Number of repetitions.
    """
    if order == "random":
        rows = np.random.default_rng(seed).permutation(len(data))
    elif order == "task":
        rows = np.argsort(np.array(data.tasks), kind="stable")
    else:
        rows = np.arange(len(data))
    return ReplayQueries(data, np.tile(rows[:limit], repeat))
