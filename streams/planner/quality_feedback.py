"""The correction by reported quality: absorbed from the ledgers, published when it changes an estimate."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import structlog

from routing.feedback.clusters import TaskClusters
from routing.feedback.plan_correction import Evidence, absorb, offsets_of, restart
from routing.planning.planner import Planner
from routing.policy.plan import Plan
from streams.ledger.quality_residuals import QualityResiduals
from streams.ledger.record import LedgerRecord

log = structlog.get_logger(__name__)

MIN_CHANGE = 0.01
"""Change of a corrected quality that a new plan is published for."""


class QualityFeedback:
    """Keeps the evidence on reported quality between plans.

    The plan has the evidence of its last change and the totals of the ledgers at that time, so that another
    planner continues from there.

    Parameters
    ----------
    clusters : TaskClusters, optional
        Of the history; None if estimates are not corrected.
    models : collection of str
        LLMs of the history. The others are estimated by their reported quality alone.
    """

    def __init__(self, clusters: TaskClusters | None, models: Collection[str]) -> None:
        self._count = 0 if clusters is None else len(clusters)
        self._digest = "" if clusters is None else clusters.digest
        self._models = frozenset(models)
        self._evidence: Evidence | None = None

    def forget(self) -> None:
        """Continue from the plan in force at the next update."""
        self._evidence = None

    def update(self, planner: Planner, ledgers: Mapping[int, LedgerRecord]) -> None:
        """Absorb the ledgers of all lanes; record a correction that changes estimates in the plan."""
        plan = planner.plan
        if not self._digest:
            if plan.correction:
                planner.record_correction({}, "")
            return
        totals = self._totals(ledgers)
        if plan.clusters != self._digest:
            # estimated by another history: what is known says nothing about these estimates
            self._evidence = restart(totals)
            planner.record_correction(self._evidence, self._digest)
            return
        if self._evidence is None:
            self._evidence = plan.correction
        self._evidence = absorb(self._evidence, totals, self._count)
        if self._evidence is not plan.correction and self._changes(plan, self._evidence):
            planner.record_correction(self._evidence, self._digest)
            log.info("quality_corrected", offsets=_shown(self._evidence))

    def _totals(self, ledgers: Mapping[int, LedgerRecord]) -> dict[str, tuple[list[float], list[float]]]:
        sums: dict[str, QualityResiduals] = {}
        for record in ledgers.values():
            for name, residuals in record.residuals.items():
                if name in self._models:
                    sums[name] = sums.get(name, QualityResiduals()) + residuals
        return {name: self._padded(residuals) for name, residuals in sums.items()}

    def _padded(self, sums: QualityResiduals) -> tuple[list[float], list[float]]:
        """Return the sums with one number per cluster; clusters of an earlier history may be more."""
        answers, residuals = sums.to_list()
        missing = [0.0] * max(0, self._count - len(answers))
        return (answers + missing)[: self._count], (residuals + missing)[: self._count]

    def _changes(self, plan: Plan, evidence: Evidence) -> bool:
        before, after = (offsets_of(one, plan.models) for one in (plan.correction, evidence))
        if before is None or after is None:
            return before is not after
        return bool(np.abs(after - before).max() >= MIN_CHANGE)


def _shown(evidence: Evidence) -> dict[str, list[float]]:
    """Return the corrections that are not 0, by LLM and cluster."""
    names = tuple(evidence)
    offsets = offsets_of(evidence, names)
    if offsets is None:
        return {}
    return {name: np.round(row, 3).tolist() for name, row in zip(names, offsets, strict=True) if row.any()}
