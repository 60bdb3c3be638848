"""The router of this project, simulated in memory, and the published form of PORT."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from experiments.cases import Case, EstimateSource
from experiments.policies.base import Decisions
from experiments.policies.hard_stops import hard_stops
from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates
from routing.planning.schedule import PlanningSettings
from routing.simulation import simulate


@dataclass(frozen=True)
class Port:
    """The router of this project, run by the code that the stream uses.

    Parameters
    ----------
    name : str
    source : EstimateSource
        Source of its estimates.
    planning : dict
        Fields of `routing.planning.planner.PlanningSettings`, except the horizon.
    settle : bool
        Outcomes replace reservations before the next query, as if fleets answered at once. Otherwise
        estimated costs stay charged.
    """

    name: str
    source: EstimateSource
    planning: dict[str, object]
    settle: bool = True
    block: int | None = 1
    one_price: bool = False
    """Groups have one price together, and each stops when its own budget is spent."""
    exploration: float = 0.0
    """Share of the queries that explore a random LLM."""
    exploration_budget: float = math.inf
    """Share of each budget that explored queries draw in the mean, at most."""

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        settings = PlanningSettings(horizon=case.horizon, **self.planning)  # type: ignore[arg-type]
        if self.one_price:
            return hard_stops(case, settings, case.estimates(self.source), case.leave_one_out(self.source))
        result = simulate(
            case.estimates(self.source),
            case.shared or case.budgets,
            settings,
            models=case.models,
            history=case.leave_one_out(self.source) if settings.uses_history else None,
            true_cost=case.cost if self.settle else None,
            settle_after=0 if self.settle else None,
            seed=case.seed,
            terms=case.terms,
            exploration=self.exploration,
            exploration_budget=self.exploration_budget,
        )
        return Decisions(result.choice, result.spent_usd(len(case.models)))


@dataclass(frozen=True)
class PortPublished:
    """The published form of PORT: alpha-scaled scores, prices in [0, 1], no option to leave a query unserved.

    Parameters
    ----------
    source : EstimateSource
        Source of its estimates.
    eps : float
        Share of the queries from which the prices are learned. They are routed at random over M + 1 choices,
        the last of which drops the query.
    alpha : float
        Scale of quality in the scores.
    """

    source: EstimateSource
    eps: float = 0.025
    alpha: float = 1e-4
    name: str = "port-published"
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        case.require_per_llm(self.name)
        estimates = case.estimates(self.source)
        learns = len(case) > self._sample_size(case)
        prices = self.prices(estimates, case) if learns else np.zeros(len(case.models))
        return Decisions(self.follow(prices, estimates, case))

    def prices(self, estimates: Estimates, case: Case) -> FloatArray:
        """Return the prices learned from the first queries, shape [M]."""
        sample = slice(0, self._sample_size(case))
        quality, cost = self.alpha * estimates.quality[sample], estimates.cost[sample]
        return published_prices(quality, cost, case.budgets * self.eps)

    def follow(self, prices: FloatArray, estimates: Estimates, case: Case) -> IntArray:
        """Decide the first queries at random and the others by the prices, shape [n]."""
        n, models = self._sample_size(case), len(case.models)
        # The published code uses NumPy's legacy generator; this reproduces its draws one by one.
        draws = np.random.RandomState(case.seed).randint(0, models + 1, n)[: len(case)]
        score = self.alpha * estimates.quality[n:] - prices * estimates.cost[n:]
        return np.concatenate([np.where(draws == models, -1, draws), score.argmax(axis=1)])

    def _sample_size(self, case: Case) -> int:
        return max(1, math.ceil(self.eps * case.horizon - 1e-9))


def published_prices(quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> FloatArray:
    """Return prices in [0, 1] by L-BFGS-B from 1/M, without the option to leave a query unserved.

    The gradient uses finite differences of 1e-8 and the function has kinks, so the result depends on
    rounding; `experiments.studies.rounding` measures how much.
    """
    models = len(budgets)

    def dual(prices: FloatArray) -> float:
        return float(prices @ budgets + (quality - prices * cost).max(axis=1).sum())

    result = minimize(dual, np.full(models, 1 / models), method="L-BFGS-B", bounds=[(0, 1)] * models)
    return np.asarray(result.x)
