"""Oracles: the linear program solved offline on all test queries, on estimates or on the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.policies.base import Decisions
from experiments.split import Case, Source
from routing.prices import LPSolution, solve_lp


@dataclass(frozen=True)
class Offline:
    """Each query to its largest x_ij.

    Parameters
    ----------
    name : str
    source : Source, optional
        Of the estimates; the truth when left out.
    """

    name: str
    source: Source | None = None
    block: int | None = None

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        share = self.solution(case).assignment
        return Decisions(np.where(share.sum(axis=1) > 1e-6, share.argmax(axis=1), -1))

    def solution(self, case: Case) -> LPSolution:
        """The program's solution, its objective included."""
        if self.source is None:
            return solve_lp(case.quality, case.cost, case.budgets)
        estimates = case.estimates(self.source)
        return solve_lp(estimates.quality, estimates.cost, case.budgets)
