"""Policies without prices: random, one LLM for all, the greedy rules and the batched assignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from experiments.cases import Case, EstimateSource
from experiments.policies.base import Decisions
from routing.arrays import FloatArray
from routing.budgets.splits import best_single

_BATCH_QUERIES = 256


@dataclass(frozen=True)
class Random:
    """Sends each query to an LLM drawn uniformly."""

    name: str = "random"
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        draws = np.random.default_rng(case.seed).integers(len(case.models), size=case.horizon)
        return Decisions(draws[: len(case)])


@dataclass(frozen=True)
class Single:
    """Sends every query to one LLM: `routing.budgets.splits.best_single`, or the cheapest in the history."""

    rule: Literal["best-single", "cheapest"]
    block: int | None = 1

    @property
    def name(self) -> str:
        """Name of the rule."""
        return self.rule

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        past, data = case.split.past, case.split.data
        if self.rule == "best-single":
            quality, cost = data.quality[past].mean(0), data.cost[past].mean(0)
            budgets = np.full(len(cost), case.total) if case.shared else case.budgets
            llm = best_single(quality, cost, budgets, case.horizon)
        else:
            llm = int(data.cost[past].mean(0).argmin())
        return Decisions(np.full(len(case), llm))


@dataclass(frozen=True)
class GreedyQuality:
    """Sends each query to the LLM of the highest estimated quality, regardless of budgets."""

    name: str
    source: EstimateSource
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        return Decisions(case.estimates(self.source).quality.argmax(axis=1))


@dataclass(frozen=True)
class GreedyBudget:
    """Sends each query to the LLM with the largest remaining budget by estimated cost.

    As published, it keeps sending when budgets are exhausted; by the accounting rule such queries are lost.
    """

    name: str
    source: EstimateSource
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        case.require_per_llm(self.name)
        cost = case.estimates(self.source).cost
        remaining = np.array(case.budgets)
        choice = np.empty(len(case), np.int64)
        for j in range(len(case)):
            choice[j] = llm = int(remaining.argmax())
            remaining[llm] -= cost[j, llm]
        return Decisions(choice)


@dataclass(frozen=True)
class BatchSplit:
    """Solves a 0/1 assignment for every 256 queries, within the remaining budgets by estimated cost.

    Parameters
    ----------
    gap : float
        Relative gap at which the integer program may stop.
    limit : float
        Time limit of a batch in seconds.
    """

    source: EstimateSource
    name: str = "batchsplit"
    block: int | None = _BATCH_QUERIES
    gap: float = 0.005
    limit: float = 20.0

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        case.require_per_llm(self.name)
        estimates = case.estimates(self.source)
        remaining = np.array(case.budgets)
        choice = np.full(len(case), -1)
        for start in range(0, len(case), _BATCH_QUERIES):
            part = slice(start, min(start + _BATCH_QUERIES, len(case)))
            assigned = self._assign(estimates.quality[part], estimates.cost[part], remaining)
            choice[part] = assigned
            served = np.flatnonzero(assigned >= 0)
            np.subtract.at(remaining, assigned[served], estimates.cost[part][served, assigned[served]])
        return Decisions(choice, case.budgets - remaining)

    def _assign(self, quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> np.ndarray:
        n, models = quality.shape
        query, llm = np.repeat(np.arange(n), models), np.tile(np.arange(models), n)
        unit = np.maximum(cost.mean(axis=0), 1e-15)
        column = np.arange(n * models)
        indices = (np.r_[llm, models + query], np.r_[column, column])
        values = np.r_[(cost / unit).ravel(), np.ones(n * models)]
        rows = coo_array((values, indices), shape=(models + n, n * models)).tocsc()
        limits = np.r_[np.maximum(budgets, 0) / unit, np.ones(n)]
        affordable = (cost <= np.maximum(budgets, 0)).ravel().astype(float)
        solved = milp(
            -quality.ravel(),
            constraints=LinearConstraint(rows, -np.inf, limits),
            integrality=np.ones(n * models),
            bounds=Bounds(0, affordable),
            options={"mip_rel_gap": self.gap, "time_limit": self.limit},
        )
        if solved.x is None:
            return np.full(n, -1)
        share = solved.x.reshape(n, models)
        return np.where(share.max(axis=1) > 0.5, share.argmax(axis=1), -1)
