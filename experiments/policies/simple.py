"""Policies without prices: random, one LLM for all, the greedy rules and the batched assignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from experiments.policies.base import Decisions
from experiments.split import Case, Source
from routing.budgets import best_single
from routing.estimators.base import FloatArray


@dataclass(frozen=True)
class Random:
    """Uniform over LLMs."""

    name: str = "random"
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        draws = np.random.default_rng(case.seed).integers(len(case.models), size=case.horizon)
        return Decisions(draws[: len(case)])


@dataclass(frozen=True)
class Single:
    """One LLM for every query: that of `routing.budgets.best_single`, or the cheapest by the history."""

    rule: Literal["best-single", "cheapest"]
    block: int | None = 1

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        past, data = case.split.past, case.split.data
        if self.rule == "best-single":
            quality, cost = data.quality[past].mean(0), data.cost[past].mean(0)
            llm = best_single(quality, cost, case.budgets, case.horizon)
        else:
            llm = int(data.cost[past].mean(0).argmin())
        return Decisions(np.full(len(case), llm))


@dataclass(frozen=True)
class GreedyQuality:
    """The LLM of the highest estimated quality, whatever its budget."""

    name: str
    source: Source
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        return Decisions(case.estimates(self.source).quality.argmax(axis=1))


@dataclass(frozen=True)
class GreedyBudget:
    """The LLM with the most budget left, by the estimated cost charged so far.

    As published it sends on when nothing is left; such queries are lost by the accounting rule.
    """

    name: str
    source: Source
    block: int | None = 1

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        cost = case.estimates(self.source).cost
        left = np.array(case.budgets)
        choice = np.empty(len(case), np.int64)
        for j in range(len(case)):
            choice[j] = llm = int(left.argmax())
            left[llm] -= cost[j, llm]
        return Decisions(choice)


@dataclass(frozen=True)
class BatchSplit:
    """Every 256 queries, the 0/1 assignment on the estimates within the estimated budgets left.

    Parameters
    ----------
    gap : float
        Relative gap at which the integer program may stop.
    limit : float
        Seconds a batch.
    """

    source: Source
    name: str = "batchsplit"
    block: int | None = 256
    gap: float = 0.005
    limit: float = 20.0

    def decide(self, case: Case) -> Decisions:
        """See `experiments.policies.base.Policy`."""
        estimates = case.estimates(self.source)
        left = np.array(case.budgets)
        choice = np.full(len(case), -1)
        for start in range(0, len(case), 256):
            part = slice(start, min(start + 256, len(case)))
            chosen = self._assign(estimates.quality[part], estimates.cost[part], left)
            choice[part] = chosen
            served = np.flatnonzero(chosen >= 0)
            np.subtract.at(left, chosen[served], estimates.cost[part][served, chosen[served]])
        return Decisions(choice, case.budgets - left)

    def _assign(self, quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> np.ndarray:
        n, models = quality.shape
        query, llm = np.repeat(np.arange(n), models), np.tile(np.arange(models), n)
        unit = np.maximum(cost.mean(axis=0), 1e-15)
        column = np.arange(n * models)
        places = (np.r_[llm, models + query], np.r_[column, column])
        values = np.r_[(cost / unit).ravel(), np.ones(n * models)]
        rows = coo_array((values, places), shape=(models + n, n * models)).tocsc()
        most = np.r_[np.maximum(budgets, 0) / unit, np.ones(n)]
        payable = (cost <= np.maximum(budgets, 0)).ravel().astype(float)
        solved = milp(
            -quality.ravel(),
            constraints=LinearConstraint(rows, -np.inf, most),
            integrality=np.ones(n * models),
            bounds=Bounds(0, payable),
            options={"mip_rel_gap": self.gap, "time_limit": self.limit},
        )
        if solved.x is None:
            return np.full(n, -1)
        share = solved.x.reshape(n, models)
        return np.where(share.max(axis=1) > 0.5, share.argmax(axis=1), -1)
