"""The whole router in memory: the same planner and the same lanes as the stream, without Kafka."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from routing.account import Account
from routing.decision import DEFERRED, UNSERVED, IntArray
from routing.estimators.base import Estimates, FloatArray
from routing.money import to_pico, to_usd
from routing.plan import Plan
from routing.planning import Planner, PlanningSettings
from routing.policy import route, waits


@dataclass(frozen=True)
class Outcome:
    """What following a list of decisions brought, under the paper's accounting rule.

    Parameters
    ----------
    performance : float
        Sum of the true quality of the served queries.
    cost : float
        USD truly spent.
    throughput : int
        Queries served.
    counted : ndarray of bool, shape [n]
        Which queries counted.
    spent : ndarray of float64, shape [M]
        USD by LLM.
    """

    performance: float
    cost: float
    throughput: int
    counted: NDArray[np.bool_]
    spent: FloatArray


def account_for(choice: IntArray, quality: FloatArray, cost: FloatArray, budgets: FloatArray) -> Outcome:
    """Apply the accounting rule of the evaluation (PORT, section 4).

    A query sent to LLM i counts only while the sum of LLM i's true costs, this query included, stays within
    B_i; otherwise it is lost and costs nothing.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
        LLM of each query in the order of arrival; negative: not sent.
    quality, cost : ndarray of float64, shape [n, M]
        True values.
    budgets : ndarray of float64, shape [M]
        USD.

    Examples
    --------
    >>> result = account_for(np.array([0, 0, -1]), np.ones((3, 1)), np.full((3, 1), 0.6), np.array([1.0]))
    >>> result.performance, result.throughput
    (1.0, 1)
    """
    spent = np.zeros(len(budgets))
    counted = np.zeros(len(choice), dtype=bool)
    limit = budgets * (1 + 1e-12)
    for i in range(len(budgets)):
        for j in np.flatnonzero(choice == i):
            if spent[i] + cost[j, i] <= limit[i]:
                spent[i] += cost[j, i]
                counted[j] = True
    rows = np.flatnonzero(counted)
    return Outcome(
        float(quality[rows, choice[rows]].sum()), float(spent.sum()), int(counted.sum()), counted, spent
    )


@dataclass
class Simulation:
    """Decisions of a simulated stream, and how they came about.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
    score : ndarray of float64, shape [n, M]
        Scores at the time of the decision.
    plans : list of Plan
        Every plan that changed prices.
    accounts : list of Account
        The lanes at the end.
    overflowed : int
        Queries that went through the overflow lane.
    """

    choice: IntArray
    score: FloatArray
    plans: list[Plan] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    overflowed: int = 0


def simulate(
    estimates: Estimates,
    budgets: FloatArray,
    settings: PlanningSettings,
    *,
    models: tuple[str, ...] | None = None,
    history: Estimates | None = None,
    charge: IntArray | None = None,
    true_cost: FloatArray | None = None,
    settle_after: int | None = None,
    lanes: NDArray[np.int64] | None = None,
    overflow_after: int = 50,
    tick: int = 200,
    seed: int = 0,
) -> Simulation:
    """Route a stream of queries in memory.

    Parameters
    ----------
    estimates : Estimates
        Of the n queries in order of arrival, [n, M].
    budgets : ndarray of float64, shape [M]
        USD.
    settings : PlanningSettings
    models : tuple of str, length M, optional
    history : Estimates, optional
        Leave-one-out estimates of the history, [H, M].
    charge : ndarray of int64, shape [n, M], optional
        Picodollars to reserve; by default the estimated costs.
    true_cost : ndarray of float64, shape [n, M], optional
        USD really spent: with `settle_after`, reservations are replaced by it. A query whose true cost the
        budget cannot pay any more is lost and settles at nothing (the accounting rule).
    settle_after : int, optional
        Queries after which an outcome arrives; 0 is before the next decision. None: never.
    lanes : ndarray of int64, shape [n], optional
        Partition of each query; more than one brings the overflow lane in. Default: one partition.
    overflow_after : int
        Queries later at which the overflow lane decides.
    tick : int
        Queries between two looks of the planner at the ledgers, which show it the state one tick ago.
    seed : int
        Of random warm-up.

    Returns
    -------
    Simulation
    """
    run = _Run(estimates, budgets, settings, models, history, charge, true_cost, settle_after, lanes, seed)
    run.overflow_after, run.tick = overflow_after, tick
    if run.partitions == 1 and settle_after is None:
        run.in_batches()
    else:
        run.one_by_one()
    return Simulation(run.choice, run.score, run.plans, run.accounts, run.overflowed)


class _Run:
    """State of one simulated stream."""

    overflow_after = 50
    tick = 200

    def __init__(
        self,
        estimates: Estimates,
        budgets: FloatArray,
        settings: PlanningSettings,
        models: tuple[str, ...] | None,
        history: Estimates | None,
        charge: IntArray | None,
        true_cost: FloatArray | None,
        settle_after: int | None,
        lanes: NDArray[np.int64] | None,
        seed: int,
    ) -> None:
        n, count = estimates.quality.shape
        self.estimates, self.settings, self.seed = estimates, settings, seed
        self.charge = to_pico(estimates.cost) if charge is None else charge
        self.lane = np.zeros(n, dtype=np.int64) if lanes is None else lanes
        self.partitions = int(self.lane.max(initial=0)) + 1
        overflow = self.partitions > 1
        self.planner = Planner(
            settings,
            models or tuple(f"llm-{i}" for i in range(count)),
            budgets,
            lanes=self.partitions,
            overflow=overflow,
            history=history,
        )
        self.plan = self.planner.start_period()
        self.plans = [self.plan]
        self.accounts = [Account.fresh(1, count) for _ in range(self.partitions + overflow)]
        self.choice = np.full(n, UNSERVED, dtype=np.int64)
        self.score = np.zeros((n, count))
        self.overflowed = 0
        self.settle_after = settle_after
        self.actual = None if true_cost is None else to_pico(true_cost)
        self.paid = np.zeros(count, dtype=np.int64)
        self.outcomes: deque[tuple[int, int, int, int, int]] = deque()
        self.waiting: deque[tuple[int, int]] = deque()

    def report(self, start: int, stop: int) -> None:
        """Samples of queries [start, stop) to the planner, which knows every account."""
        for number, account in enumerate(self.accounts):
            self.planner.see(number, account)
        if plans := self.planner.observe(self.estimates.rows(slice(start, stop))):
            self.plans += plans
            self.plan = self.planner.plan

    def decide(self, lane: int, start: int, stop: int) -> None:
        """Route queries [start, stop) on a lane."""
        routed = route(
            self.accounts[lane],
            self.plan,
            lane,
            self.estimates.rows(slice(start, stop)),
            np.arange(start, stop),
            charge=self.charge[start:stop],
            seed=self.seed,
        )
        self.accounts[lane] = routed.account
        self.choice[start:stop], self.score[start:stop] = routed.choice, routed.score

    def in_batches(self) -> None:
        """One partition without settlement: whole stretches between two solves at once."""
        n, start = len(self.choice), 0
        if waits(self.plan, self.settings.warmup):
            sampled = min(n, self.settings.warmup_queries)
            self.report(0, sampled)
            if waits(self.plan, self.settings.warmup):
                self.plan = self.planner.solve(early=True) or self.plan
        else:
            sampled = 0
        while start < n:
            stop = n if self.plan.until is None else min(n, max(self.plan.until, start + 1))
            self.decide(0, start, stop)
            # the buffered queries were sampled before they were decided
            self.report(max(start, sampled), stop) if stop > sampled else None
            start = stop

    def one_by_one(self) -> None:
        """Several partitions, or settlement while the stream runs."""
        n = len(self.choice)
        sampled = 0
        if waits(self.plan, self.settings.warmup):
            sampled = min(n, self.settings.warmup_queries)
            self.report(0, sampled)
            if waits(self.plan, self.settings.warmup):
                self.plan = self.planner.solve(early=True) or self.plan
        for j in range(n + self.overflow_after):
            self.settle_due(j)
            while self.waiting and self.waiting[0][0] <= j:
                self.overflow_one(self.waiting.popleft()[1])
            if j >= n:
                continue
            if self.partitions > 1 and j % self.tick == 0:
                # what the planner hands out now rests on what it saw one tick ago
                self.plan = self.planner.hand_out()
                for number, account in enumerate(self.accounts):
                    self.planner.see(number, account)
            lane = int(self.lane[j])
            self.decide(lane, j, j + 1)
            if self.choice[j] == DEFERRED:
                self.waiting.append((j + self.overflow_after, j))
                self.overflowed += 1
            else:
                self.pay(lane, j)
            if j >= sampled:
                if self.partitions > 1:
                    if plans := self.planner.observe(self.estimates.rows(slice(j, j + 1))):
                        self.plans += plans
                        self.plan = self.planner.plan
                else:
                    self.settle_due(j)
                    self.report(j, j + 1)

    def overflow_one(self, j: int) -> None:
        """The overflow lane decides a deferred query."""
        lane = self.partitions
        self.decide(lane, j, j + 1)
        self.pay(lane, j)

    def pay(self, lane: int, j: int) -> None:
        """The fleet answers: the outcome is due `settle_after` queries later."""
        i = int(self.choice[j])
        if i < 0 or self.settle_after is None or self.actual is None:
            return
        actual = int(self.actual[j, i])
        if self.paid[i] + actual > self.plan.budgets[i]:
            actual = 0
        self.paid[i] += actual
        self.outcomes.append((j + self.settle_after, lane, i, int(self.charge[j, i]), actual))

    def settle_due(self, j: int) -> None:
        """Settle the outcomes that have arrived before query j + 1 is decided."""
        while self.outcomes and self.outcomes[0][0] <= j:
            _, lane, i, reserved, actual = self.outcomes.popleft()
            self.accounts[lane] = self.accounts[lane].settle(
                np.array([i]), np.array([reserved]), np.array([actual])
            )


def spent_usd(accounts: list[Account]) -> FloatArray:
    """What the lanes have charged together, USD by LLM, shape [M]."""
    return to_usd(sum((account.charged for account in accounts), np.zeros_like(accounts[0].charged)))
