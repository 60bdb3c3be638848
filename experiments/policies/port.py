"""PORT and what goes past it: the router itself, run in memory; and the authors' published form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from experiments.policies.base import Decisions
from experiments.split import Case, IntArray, Source
from routing.estimators.base import Estimates, FloatArray
from routing.planning import PlanningSettings
from routing.simulate import simulate, spent_usd


@dataclass(frozen=True)
class Port:
    """The router of this project, by the same code as the stream.

    Parameters
    ----------
    name : str
    source : Source
        Of its estimates.
    planning : dict
        Fields of `routing.planning.PlanningSettings`, the horizon left out.
    settle : bool
        Outcomes replace reservations before the next query, as when fleets answer at once; else estimated
        costs stay charged.
    """

    name: str
    source: Source
    planning: dict[str, object]
    settle: bool = True
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        settings = PlanningSettings(horizon=case.horizon, **self.planning)  # type: ignore[arg-type]
        needs_history = settings.warmup == "history" or settings.resolve == "every"
        result = simulate(
            case.estimates(self.source),
            case.budgets,
            settings,
            models=case.models,
            history=case.own(self.source) if needs_history else None,
            true_cost=case.cost if self.settle else None,
            settle_after=0 if self.settle else None,
            seed=case.seed,
        )
        return Decisions(result.choice, spent_usd(result.accounts))


@dataclass(frozen=True)
class PortPublished:
    """The authors' published form: alpha-scaled scores, prices in [0, 1], no unserved option.

    Parameters
    ----------
    source : Source
        Of its estimates.
    eps : float
        Share of the queries that are routed at random, over M + 1 choices the last of which drops the query,
        and that the prices are learned from.
    alpha : float
        Scale of quality in the scores.
    """

    source: Source
    eps: float = 0.025
    alpha: float = 1e-4
    name: str = "port-published"
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        estimates = case.estimates(self.source)
        prices = self.prices(estimates, case) if len(case) > self._first(case) else np.zeros(len(case.models))
        return Decisions(self.follow(prices, estimates, case))

    def prices(self, estimates: Estimates, case: Case) -> FloatArray:
        """What it learns from the first queries, shape [M]."""
        first = slice(0, self._first(case))
        quality, cost = self.alpha * estimates.quality[first], estimates.cost[first]
        return published_prices(quality, cost, case.budgets * self.eps)

    def follow(self, prices: FloatArray, estimates: Estimates, case: Case) -> IntArray:
        """The first queries at random, the others by the prices; shape [n]."""
        n, models = self._first(case), len(case.models)
        # the published code draws from NumPy's legacy generator: its figures come back draw for draw
        draws = np.random.RandomState(case.seed).randint(0, models + 1, n)[: len(case)]
        score = self.alpha * estimates.quality[n:] - prices * estimates.cost[n:]
        return np.concatenate([np.where(draws == models, -1, draws), score.argmax(axis=1)])

    def _first(self, case: Case) -> int:
        return max(1, math.ceil(self.eps * case.horizon - 1e-9))


def published_prices(quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> FloatArray:
    """Prices in [0, 1] by L-BFGS-B from 1/M, without the option to leave a query unserved.

    The gradient is by finite differences of 1e-8, the function has kinks: where the search stops depends on
    last bits (`experiments.last_bits` tells how far).
    """
    models = len(budgets)

    def dual(prices: FloatArray) -> float:
        return float(prices @ budgets + (quality - prices * cost).max(axis=1).sum())

    found = minimize(dual, np.full(models, 1 / models), method="L-BFGS-B", bounds=[(0, 1)] * models)
    return np.asarray(found.x)
