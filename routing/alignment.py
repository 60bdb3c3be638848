"""Estimates in the catalogue's order: columns by name, and constants for LLMs that no history covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.decision import IntArray
from routing.estimators.base import Estimates, FloatArray
from routing.plan import Plan

ENOUGH = 30
"""Reported answers after which an LLM without a history is routed to by its means; until then explored."""

CLOSED_COST = 1.0
"""USD; stands in the column of an LLM that cannot be estimated and so is not chosen."""


@dataclass(frozen=True)
class Measured:
    """What the outcomes of explored queries say of an LLM without a history.

    Parameters
    ----------
    answers : int
        Outcomes that carried a quality.
    quality : float
        Their mean.
    cost : float
        Mean USD of a settled query; before there is one, what the list price suggests.
    """

    answers: int
    quality: float
    cost: float

    @property
    def enough(self) -> bool:
        """It can be compared with the others."""
        return self.answers >= ENOUGH


class Alignment:
    """From an estimator's columns to a plan's.

    Parameters
    ----------
    source : tuple of str
        The estimator's LLMs.
    target : tuple of str, length M
        The plan's.
    measured : mapping of str to Measured
        LLMs of the plan that the estimator does not know.
    cost_factor : mapping of str to float
        By how much an LLM's price has changed since its history; 1 where absent. What was measured is not
        scaled: it was paid at the prices of its day, and follows new ones by itself.

    Examples
    --------
    >>> estimates = Estimates(np.array([[0.1, 0.2]]), np.array([[1.0, 2.0]]))
    >>> aligned = Alignment(("a", "b"), ("b", "c"), {"c": Measured(99, 0.7, 0.5)}).apply(estimates)
    >>> aligned.quality.tolist(), aligned.cost.tolist()
    ([[0.2, 0.7]], [[2.0, 0.5]])
    """

    def __init__(
        self,
        source: tuple[str, ...],
        target: tuple[str, ...],
        measured: Mapping[str, Measured] | None = None,
        cost_factor: Mapping[str, float] | None = None,
    ) -> None:
        measured, cost_factor = measured or {}, cost_factor or {}
        self._same = source == target and not cost_factor
        where = {name: number for number, name in enumerate(source)}
        self._columns = np.array([where.get(name, -1) for name in target], dtype=np.intp)
        self._known = self._columns >= 0
        self._factor = np.array([cost_factor.get(name, 1.0) for name in target])
        self._quality, self._cost = np.zeros(len(target)), np.full(len(target), CLOSED_COST)
        self.comparable: NDArray[np.bool_] = self._known.copy()
        """LLMs that may be chosen by score, [M]."""
        for i, name in enumerate(target):
            if (known := measured.get(name)) is not None:
                # where columns are a plan's own, that LLM has one as well
                self._quality[i], self._cost[i] = known.quality, known.cost
                self.comparable[i] = known.enough
        self.unmeasured: IntArray = np.flatnonzero(~self.comparable)
        """Positions of LLMs that wait for exploration."""

    def apply(self, estimates: Estimates) -> Estimates:
        """The estimates with the plan's columns, [n, M]."""
        if self._same:
            return self._widened(estimates)
        quality = np.where(self._known, estimates.quality[:, self._columns], self._quality)
        cost = np.where(self._known, estimates.cost[:, self._columns] * self._factor, self._cost)
        return Estimates(quality, cost)

    def _widened(self, estimates: Estimates) -> Estimates:
        """Estimates made before LLMs were added at the end, and none at all, have fewer columns.

        Those made by a plan that is not known here yet have more: what it added is not open here either.
        """
        models = len(self._columns)
        more = models - estimates.quality.shape[1]
        if more == 0:
            return estimates
        if more < 0:
            return Estimates(estimates.quality[:, :models], estimates.cost[:, :models])
        room = ((0, 0), (0, more))
        return Estimates(
            np.pad(estimates.quality, room), np.pad(estimates.cost, room, constant_values=CLOSED_COST)
        )


def align(source: tuple[str, ...] | None, plan: Plan) -> Alignment:
    """From an estimator's columns to a plan's; from the plan's own where no estimator is between (None)."""
    measured = {
        name: Measured(int(answers), quality, cost)
        for name, (answers, quality, cost) in plan.measured.items()
    }
    if source is None:
        return Alignment(plan.models, plan.models, measured)
    unknown = {name: known for name, known in measured.items() if name not in source}
    return Alignment(source, plan.models, unknown, plan.cost_factor)


def reordered(
    history: Estimates | None, mean_cost: FloatArray, before: tuple[str, ...], names: tuple[str, ...]
) -> tuple[Estimates | None, FloatArray]:
    """Estimates and mean costs in the order of other LLMs; one of which nothing is known stays closed.

    Parameters
    ----------
    history : Estimates, optional
        [H, len(before)].
    mean_cost : ndarray of float64, shape [len(before)]
        What is not known costs as much as the others do on average.
    before, names : tuple of str
        What columns stand for, and shall.

    Examples
    --------
    >>> reordered(None, np.array([1.0, 3.0]), ("a", "b"), ("b", "c"))[1].tolist()
    [3.0, 2.0]
    """
    where = {name: number for number, name in enumerate(before)}
    columns = np.array([where.get(name, -1) for name in names], dtype=np.intp)
    known = columns >= 0
    if history is not None:
        history = Estimates(
            np.where(known, history.quality[:, columns], 0.0),
            np.where(known, history.cost[:, columns], CLOSED_COST),
        )
    return history, np.where(known, mean_cost[columns], mean_cost.mean())
