"""The samples that prices are learned from: recent ones, and those that are held for later solves."""

from __future__ import annotations

from collections import deque

import numpy as np

from routing.estimators.base import Estimates, FloatArray
from routing.schedule import PlanningSettings

KEEP_ROWS = 20_000
"""Samples kept for geometric re-solving; beyond, the oldest are forgotten."""


def shuffled(history: Estimates) -> Estimates:
    """A history's rows in a fixed random order, so that the first of them stand for all."""
    return history.rows(np.random.default_rng(0).permutation(len(history)))


class Samples:
    """Estimates of queries in the order of the samples' log.

    Parameters
    ----------
    settings : PlanningSettings
    """

    def __init__(self, settings: PlanningSettings) -> None:
        self._settings = settings
        self._keep = settings.warmup_queries
        self._keep = max(self._keep, settings.resolve_window if settings.resolve == "every" else KEEP_ROWS)
        self._quality: list[FloatArray] = []
        self._cost: list[FloatArray] = []
        self.rows = 0
        """Samples that are kept."""
        self._held: deque[Estimates] = deque()
        self.held = 0
        """Samples in line."""

    def hold(self, estimates: Estimates) -> None:
        """Put samples in line."""
        if len(estimates):
            self._held.append(estimates)
            self.held += len(estimates)

    def take(self, most: int) -> Estimates | None:
        """The next samples in line, at most so many; None when there are none or none may be taken."""
        if not self._held or most <= 0:
            return None
        estimates = self._held.popleft()
        if len(estimates) > most:
            self._held.appendleft(estimates.rows(slice(most, None)))
        taken = estimates.rows(slice(0, most))
        self.held -= len(taken)
        return taken

    def keep(self, estimates: Estimates) -> None:
        """Keep samples for the next solve."""
        self._quality.append(estimates.quality)
        self._cost.append(estimates.cost)
        self.rows += len(estimates)
        while self.rows - len(self._quality[0]) >= self._keep:
            self.rows -= len(self._quality.pop(0))
            self._cost.pop(0)

    def forget(self) -> None:
        """Drop everything."""
        self._quality, self._cost, self.rows = [], [], 0
        self._held.clear()
        self.held = 0

    def to_solve_on(self, history: Estimates | None) -> Estimates:
        """What a solve takes: for "every" recent samples, topped up with the history's rows; else all."""
        # as many whatever batches they came in
        quality = np.concatenate(self._quality)[-self._keep :]
        cost = np.concatenate(self._cost)[-self._keep :]
        if self._settings.resolve == "every":
            window = self._settings.resolve_window
            quality, cost = quality[-window:], cost[-window:]
            if history is not None and len(quality) < window:
                more = window - len(quality)
                quality = np.concatenate([quality, history.quality[:more]])
                cost = np.concatenate([cost, history.cost[:more]])
        return Estimates(quality, cost)
