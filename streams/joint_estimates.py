"""Small batches of several lanes estimated together: one pass over the history for all of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from routing.estimators.base import Estimates, Estimator, QueryBatch

SMALL = 64
"""Batches of more queries are estimated alone, several at a time: there the pass is not what costs."""


@dataclass
class _Waiting:
    batch: QueryBatch
    found: Estimates | Exception | None = None

    def result(self) -> Estimates:
        assert self.found is not None
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class JointEstimator:
    """An estimator for all lanes of a worker: what comes while it is at work is its next batch.

    A pass costs about as much for one query as for a few. Nobody waits for others to come: a batch that comes
    alone is estimated at once. Which queries share a pass changes nothing but last bits, which decide nothing
    (decision 012).

    Parameters
    ----------
    estimator : Estimator
    small : int
        Queries in a batch up to which it is joined with others.
    """

    def __init__(self, estimator: Estimator, small: int = SMALL) -> None:
        self.models = estimator.models
        self._estimator, self._small = estimator, small
        self._waiting: list[_Waiting] = []
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def leave_one_out(self) -> Estimates:
        """Estimates for the history's own rows."""
        return self._estimator.leave_one_out()

    def estimate(self, batch: QueryBatch) -> Estimates:
        """Estimates for new queries, [n, M]; called by several threads at a time."""
        if len(batch) > self._small:
            return self._estimator.estimate(batch)
        mine = _Waiting(batch)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            if mine.found is None:
                with self._lock:
                    taken, self._waiting = self._waiting, []
                self._estimate(taken)
        return mine.result()

    def _estimate(self, taken: list[_Waiting]) -> None:
        try:
            found = self._estimator.estimate(_joined([one.batch for one in taken]))
        except Exception as error:
            if len(taken) == 1:
                taken[0].found = error
            else:  # whose fault it is only each alone can tell
                for one in taken:
                    self._estimate([one])
            return
        end = 0
        for one in taken:
            begin, end = end, end + len(one.batch)
            one.found = found.rows(slice(begin, end))


def _joined(batches: list[QueryBatch]) -> QueryBatch:
    if len(batches) == 1:
        return batches[0]
    counts = [batch.counts for batch in batches if batch.counts is not None]
    return QueryBatch(
        [prompt for batch in batches for prompt in batch.prompts],
        np.concatenate([batch.embeddings for batch in batches]),
        # those that came without are counted with the others', by the estimator
        np.concatenate(counts) if len(counts) == len(batches) else None,
    )
