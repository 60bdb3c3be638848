"""Samples that prices are learned from: retained for the next solve, or queued for later ones."""

from __future__ import annotations

from collections import deque

import numpy as np

from routing.arrays import IntArray
from routing.budgets.terms import QueryTerms, concatenate
from routing.estimators.base import Estimates
from routing.feedback.plan_correction import UNKNOWN_CLUSTER
from routing.planning.schedule import PlanningSettings

MAX_RETAINED_SAMPLES = 20_000
"""Samples retained for geometric re-solving; older ones are forgotten."""


def shuffled(history: Estimates) -> Estimates:
    """Return a history's rows in a fixed random order: any first rows represent all of them."""
    return history.rows(np.random.default_rng(0).permutation(len(history)))


class Samples:
    """Estimates of queries in the order of the samples' topic.

    Parameters
    ----------
    settings : PlanningSettings
    """

    def __init__(self, settings: PlanningSettings) -> None:
        self._settings = settings
        self._keep = settings.warmup_queries
        self._keep = max(
            self._keep, settings.resolve_window if settings.resolve == "every" else MAX_RETAINED_SAMPLES
        )
        self._retained: list[tuple[Estimates, QueryTerms]] = []
        self.rows = 0
        """Number of retained samples."""
        self._queue: deque[tuple[Estimates, QueryTerms]] = deque()
        self.queued = 0
        """Number of queued samples."""

    def enqueue(self, estimates: Estimates, terms: QueryTerms) -> None:
        """Append samples to the queue."""
        if len(estimates):
            self._queue.append((estimates, terms))
            self.queued += len(estimates)

    def dequeue(self, limit: int) -> tuple[Estimates, QueryTerms] | None:
        """Remove and return at most `limit` samples from the queue; None if there are none."""
        if not self._queue or limit <= 0:
            return None
        estimates, terms = self._queue.popleft()
        if len(estimates) > limit:
            self._queue.appendleft((estimates.rows(slice(limit, None)), terms.rows(slice(limit, None))))
        part = slice(0, limit)
        first = estimates.rows(part), terms.rows(part)
        self.queued -= len(first[0])
        return first

    def retain(self, estimates: Estimates, terms: QueryTerms) -> None:
        """Retain samples for the next solve."""
        self._retained.append((estimates, terms))
        self.rows += len(estimates)
        while self.rows - len(self._retained[0][0]) >= self._keep:
            self.rows -= len(self._retained.pop(0)[0])

    def forget(self) -> None:
        """Forget all samples."""
        self._retained, self.rows = [], 0
        self._queue.clear()
        self.queued = 0

    def terms(self, models: int) -> tuple[int, QueryTerms]:
        """Return the number of samples that a solve uses, without rows of the history, and their terms."""
        count = min(self.rows, self._limit)
        parts = [(len(estimates), terms) for estimates, terms in self._retained]
        all_terms = concatenate(parts, models)
        return count, all_terms.rows(slice(self.rows - count, None))

    def solver_input(self, history: Estimates | None, rows: int = 0) -> Estimates:
        """Return the retained samples for a solve, topped up with rows of the history.

        Parameters
        ----------
        history : Estimates, optional
            Rows in a random order, [H, M].
        rows : int
            Minimum number of rows, as far as the history has them.
        """
        # Independent of the batches in which the samples came.
        quality = np.concatenate([estimates.quality for estimates, _ in self._retained])[-self._limit :]
        cost = np.concatenate([estimates.cost for estimates, _ in self._retained])[-self._limit :]
        cluster = np.concatenate([_clusters(estimates) for estimates, _ in self._retained])[-self._limit :]
        if history is not None and len(quality) < rows:
            more = rows - len(quality)
            quality = np.concatenate([quality, history.quality[:more]])
            cost = np.concatenate([cost, history.cost[:more]])
            cluster = np.concatenate([cluster, _clusters(history)[:more]])
        return Estimates(quality, cost, cluster)

    @property
    def _limit(self) -> int:
        """Number of samples that a solve uses at most."""
        if self._settings.resolve == "every":
            return min(self._keep, self._settings.resolve_window)
        return self._keep


def _clusters(estimates: Estimates) -> IntArray:
    """Return the clusters of the estimates, unknown ones if there are none."""
    unknown = np.full(len(estimates), UNKNOWN_CLUSTER)
    return unknown if estimates.cluster is None else estimates.cluster
