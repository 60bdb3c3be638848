"""Estimates in the catalogue's order, with constants for LLMs that no history covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates
from routing.feedback.plan_correction import corrected, offsets_of
from routing.policy.plan import Plan

MIN_REPORTED_ANSWERS = 30
"""Reported answers after which an LLM without a history is routed to by its means; before, it is explored."""

CLOSED_COST = 1.0
"""USD; cost of an LLM that cannot be estimated and is never chosen."""


@dataclass(frozen=True)
class Measured:
    """Measurements of an LLM without a history, from the outcomes of explored queries.

    Parameters
    ----------
    answers : int
        Outcomes with a quality.
    quality : float
        Their mean.
    cost : float
        Mean USD of a settled query; before the first, an estimate by the list price.
    """

    answers: int
    quality: float
    cost: float

    @property
    def enough(self) -> bool:
        """True if there are enough answers to compare the LLM with others."""
        return self.answers >= MIN_REPORTED_ANSWERS


class Alignment:
    """Maps an estimator's columns to a plan's.

    Parameters
    ----------
    source : tuple of str
        The estimator's LLMs.
    target : tuple of str, length M
        The plan's.
    measured : mapping of str to Measured
        For LLMs of the plan that the estimator does not know.
    cost_factor : mapping of str to float
        Change of an LLM's list price since its history; 1 if absent. Measurements are not scaled: they were
        made at later prices and follow new ones.
    offsets : ndarray of float64, shape [M, K], optional
        Corrections of the estimated quality by LLM and task cluster.

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
        offsets: FloatArray | None = None,
    ) -> None:
        measured, cost_factor = measured or {}, cost_factor or {}
        self._same = source == target and not cost_factor
        self._offsets = offsets
        column_of = {name: number for number, name in enumerate(source)}
        self._columns = np.array([column_of.get(name, -1) for name in target], dtype=np.intp)
        self._known = self._columns >= 0
        self._factor = np.array([cost_factor.get(name, 1.0) for name in target])
        self._quality, self._cost = np.zeros(len(target)), np.full(len(target), CLOSED_COST)
        self.comparable: NDArray[np.bool_] = self._known.copy()
        """LLMs that can be chosen by score, [M]."""
        for i, name in enumerate(target):
            if (measurement := measured.get(name)) is not None:
                # If the source is the plan itself, that LLM has a column too.
                self._quality[i], self._cost[i] = measurement.quality, measurement.cost
                self.comparable[i] = measurement.enough
        self.unmeasured: IntArray = np.flatnonzero(~self.comparable)
        """Positions of LLMs to explore."""

    def correct(self, estimates: Estimates) -> Estimates:
        """Return the estimates of `apply` with qualities corrected by reported quality."""
        return corrected(estimates, self._offsets)

    def apply(self, estimates: Estimates) -> Estimates:
        """Return the estimates in the plan's columns, [n, M], uncorrected."""
        if self._same:
            return self._widened(estimates)
        quality = np.where(self._known, estimates.quality[:, self._columns], self._quality)
        cost = np.where(self._known, estimates.cost[:, self._columns] * self._factor, self._cost)
        return Estimates(quality, cost, estimates.cluster)

    def _widened(self, estimates: Estimates) -> Estimates:
        """Return estimates with as many columns as the plan.

        Estimates made before LLMs were added, and empty ones, have fewer columns. Estimates made under a
        newer plan have more; its new LLMs are not open here yet.
        """
        models = len(self._columns)
        more = models - estimates.quality.shape[1]
        if more == 0:
            return estimates
        if more < 0:
            return Estimates(estimates.quality[:, :models], estimates.cost[:, :models], estimates.cluster)
        room = ((0, 0), (0, more))
        return Estimates(
            np.pad(estimates.quality, room),
            np.pad(estimates.cost, room, constant_values=CLOSED_COST),
            estimates.cluster,
        )


def comparable_llms(measured: Mapping[str, Sequence[float]]) -> set[str]:
    """Return the LLMs with enough reported answers."""
    return {name for name, (answers, *_) in measured.items() if answers >= MIN_REPORTED_ANSWERS}


def align(source: tuple[str, ...] | None, plan: Plan, clusters: str = "") -> Alignment:
    """Return the mapping from an estimator's columns, or from the plan's own (None), to a plan's columns.

    Parameters
    ----------
    source : tuple of str or None
    plan : Plan
    clusters : str
        Digest of the task clusters of the estimates. The plan's correction applies to no others.
    """
    applies = bool(clusters) and clusters == plan.clusters
    offsets = offsets_of(plan.correction, plan.models) if applies else None
    measured = {
        name: Measured(int(answers), quality, cost)
        for name, (answers, quality, cost) in plan.measured.items()
    }
    if source is None:
        return Alignment(plan.models, plan.models, measured, offsets=offsets)
    unknown = {name: known for name, known in measured.items() if name not in source}
    return Alignment(source, plan.models, unknown, plan.cost_factor, offsets)


def reordered(
    history: Estimates | None, mean_cost: FloatArray, before: tuple[str, ...], names: tuple[str, ...]
) -> tuple[Estimates | None, FloatArray]:
    """Return estimates and mean costs in the order of other LLMs; an unknown LLM stays closed.

    Parameters
    ----------
    history : Estimates, optional
        [H, len(before)].
    mean_cost : ndarray of float64, shape [len(before)]
        An unknown LLM gets the mean of the others.
    before, names : tuple of str
        LLMs of the columns before and after.

    Examples
    --------
    >>> reordered(None, np.array([1.0, 3.0]), ("a", "b"), ("b", "c"))[1].tolist()
    [3.0, 2.0]
    """
    column_of = {name: number for number, name in enumerate(before)}
    columns = np.array([column_of.get(name, -1) for name in names], dtype=np.intp)
    known = columns >= 0
    if history is not None:
        history = Estimates(
            np.where(known, history.quality[:, columns], 0.0),
            np.where(known, history.cost[:, columns], CLOSED_COST),
            history.cluster,
        )
    return history, np.where(known, mean_cost[columns], mean_cost.mean())
