"""Oracles: the linear program solved offline on all test queries, on estimates or on true values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.cases import Case, EstimateSource
from experiments.policies.base import Decisions
from routing.budgets.money import to_usd
from routing.estimators.base import Estimates
from routing.planning.lp_prices import LPSolution, solve_lp
from routing.planning.program import ProgramSolution, RoutingProgram, solve_program


@dataclass(frozen=True)
class Offline:
    """Sends each query to the LLM with its largest x_ij.

    Parameters
    ----------
    name : str
    source : EstimateSource, optional
        Source of the estimates; true values by default.
    """

    name: str
    source: EstimateSource | None = None
    block: int | None = None

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        assignment = self.solution(case).assignment
        return Decisions(np.where(assignment.sum(axis=1) > 1e-6, assignment.argmax(axis=1), -1))

    def solution(self, case: Case) -> LPSolution | ProgramSolution:
        """Return the linear program's solution, including its objective."""
        estimates = Estimates(case.quality, case.cost) if self.source is None else case.estimates(self.source)
        if not case.shared:
            return solve_lp(estimates.quality, estimates.cost, case.budgets)
        counters = case.counters
        return solve_program(RoutingProgram.of(counters, estimates, case.terms, to_usd(counters.limits())))
