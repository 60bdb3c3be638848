"""Simulation of the router in memory, with the planner and the lanes of the stream but without Kafka."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.budget import Budget
from routing.budgets.cost_quantile import CostQuantile, Offsets, follow, offset_of
from routing.budgets.counters import CounterKey
from routing.budgets.money import to_pico, to_usd
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.decision import DEFERRED, UNSERVED, random_keys
from routing.policy.exploration import Exploration, affordable_shares
from routing.policy.plan import Plan
from routing.policy.policy import must_wait_for_prices, route


@dataclass
class Simulation:
    """Decisions of a simulated stream, with scores, plans and accounts.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
    score : ndarray of float64, shape [n, M]
        Scores at the time of the decision.
    plans : list of Plan
        Plans that changed prices.
    accounts : list of Account
        The lanes at the end.
    overflowed : int
        Queries that went through the overflow lane.
    charged : ndarray of int64, shape [n]
        Picodollars of each query: its reservation, or the actual cost after its settlement.
    reserved : ndarray of int64, shape [n]
        Picodollars that each query reserved; 0 if it is not served.
    why : ndarray of int64, shape [n]
        As in `routing.policy.policy.RoutingDecisions`.
    """

    choice: IntArray
    score: FloatArray
    plans: list[Plan] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    overflowed: int = 0
    charged: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    why: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    reserved: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def spent_usd(self, models: int) -> FloatArray:
        """Return the charges in USD by LLM, shape [M]."""
        served = self.choice >= 0
        spent = np.zeros(models, dtype=np.int64)
        np.add.at(spent, self.choice[served], self.charged[served])
        return to_usd(spent)


def simulate(
    estimates: Estimates,
    budgets: FloatArray | Sequence[Budget],
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
    terms: QueryTerms = QueryTerms(),  # noqa: B008
    arrivals: FloatArray | None = None,
    reserve: CostQuantile | None = None,
    real_costs: bool = False,
    exploration: float = 0.0,
    exploration_budget: float = math.inf,
) -> Simulation:
    """Route a stream of queries in memory.

    Parameters
    ----------
    estimates : Estimates
        Of the n queries in order of arrival, [n, M].
    budgets : ndarray of float64, shape [M], or sequence of Budget
        USD of every LLM, or budgets of any kind.
    settings : PlanningSettings
    models : tuple of str, length M, optional
    history : Estimates, optional
        Leave-one-out estimates of the history, [H, M].
    charge : ndarray of int64, shape [n, M], optional
        Picodollars to reserve; by default the estimated costs.
    true_cost : ndarray of float64, shape [n, M], optional
        USD spent. With `settle_after`, it replaces reservations. A query whose true cost exceeds the rest of
        the budget is lost and settles at 0 (the accounting rule).
    settle_after : int, optional
        Queries after which an outcome arrives; 0 is before the next decision, None is never.
    lanes : ndarray of int64, shape [n], optional
        Partition of each query; one partition by default. Several partitions add the overflow lane.
    overflow_after : int
        Queries after which the overflow lane decides.
    tick : int
        Queries between two grant rounds; the planner reads accounts that are one tick old.
    seed : int
        Of the random warm-up.
    terms : QueryTerms
        Weights, eligible LLMs, tokens and values of the n queries.
    arrivals : ndarray of float64, shape [n], optional
        Seconds at which the queries arrive, for rates; at once by default.
    reserve : CostQuantile, optional
        Reserve a quantile of the cost instead of `charge`; settled costs correct it.
    real_costs : bool
        Settle every query at its true cost, as a fleet reports it, also beyond the budget.
    exploration : float
        Share of the queries that explore a random open LLM, at most.
    exploration_budget : float
        Share of each budget that explored queries draw in the mean, at most.

    Returns
    -------
    Simulation
    """
    run = _Run(estimates, budgets, settings, models, history, charge, true_cost, settle_after, lanes, seed)
    run.overflow_after, run.tick, run.terms, run.arrivals = overflow_after, tick, terms, arrivals
    run.reserve, run.real_costs = reserve, real_costs
    run.exploration, run.exploration_budget = exploration, exploration_budget
    if run.partitions == 1 and settle_after is None and arrivals is None:
        run.in_batches()
    else:
        run.one_by_one()
    return Simulation(
        run.choice,
        run.score,
        run.plans,
        run.accounts,
        run.overflowed,
        run.charged,
        run.why,
        run.reserved,
    )


class _Run:
    """State of one simulated stream."""

    overflow_after = 50
    tick = 200
    terms = QueryTerms()
    arrivals: FloatArray | None = None
    reserve: CostQuantile | None = None
    real_costs = False
    now = 0.0
    exploration = 0.0
    exploration_budget = math.inf

    def __init__(
        self,
        estimates: Estimates,
        budgets: FloatArray | Sequence[Budget],
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
        self.reserved, self.offsets = np.zeros(n, dtype=np.int64), Offsets()
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
            clock=lambda: self.now,
        )
        self.plan = self.planner.start_period()
        self.plans = [self.plan]
        self.accounts = [Account.fresh(0, count) for _ in range(self.partitions + overflow)]
        self.choice = np.full(n, UNSERVED, dtype=np.int64)
        self.score = np.zeros((n, count))
        self.overflowed = 0
        self.settle_after = settle_after
        self.actual = None if true_cost is None else to_pico(true_cost)
        self.charged, self.why = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.spent: dict[int | CounterKey, int] = {}
        self.outcomes: deque[tuple[int, int, int, int]] = deque()
        self.columns: dict[int, tuple[IntArray, tuple[CounterKey, ...]]] = {}
        self.tokens = np.zeros(n, dtype=np.int64)
        self.deferred: deque[tuple[int, int]] = deque()

    def report_samples(self, start: int, stop: int) -> None:
        """Report samples of queries [start, stop) and all accounts to the planner."""
        for number, account in enumerate(self.accounts):
            self.planner.record_account(number, account)
        self.observe(start, stop)

    def observe(self, start: int, stop: int) -> None:
        """Report samples of queries [start, stop) to the planner."""
        part = slice(start, stop)
        if plans := self.planner.observe(self.estimates.rows(part), self.terms.rows(part)):
            self.plans += plans
            self.plan = self.planner.plan

    def decide(self, lane: int, start: int, stop: int) -> None:
        """Route queries [start, stop) on a lane."""
        if self.reserve is not None:
            factors = self.reserve.factors(self.plan.models, self.offsets)
            self.charge[start:stop] = to_pico(self.estimates.cost[start:stop] * factors)
        routed = route(
            self.accounts[lane],
            self.plan,
            lane,
            self.estimates.rows(slice(start, stop)),
            np.arange(start, stop),
            charge=self.charge[start:stop],
            seed=self.seed,
            explore=self.explorations(lane, start, stop),
            terms=self.terms.rows(slice(start, stop)),
        )
        self.accounts[lane] = routed.account
        self.choice[start:stop], self.score[start:stop] = routed.choice, routed.score
        self.charged[start:stop], self.why[start:stop] = routed.charge, routed.why
        self.reserved[start:stop] = routed.charge
        if routed.columns is not None and routed.tokens is not None and self.settle_after is not None:
            self.tokens[start:stop] = routed.tokens
            for row, drawn in enumerate(routed.columns, start):
                self.columns[row] = (drawn, routed.account.keys)

    def explorations(self, lane: int, start: int, stop: int) -> Exploration | None:
        """Return the LLMs that queries [start, stop) explore; the same on every lane."""
        if not self.exploration:
            return None
        part = slice(start, stop)
        terms, charge = self.terms.rows(part), self.charge[part]
        keys = random_keys(self.seed + 1, 0, np.arange(start, stop))
        shares = affordable_shares(self.plan, lane, charge, terms, self.exploration, self.exploration_budget)
        return Exploration.draw(keys, shares)

    def in_batches(self) -> None:
        """Simulate one partition without settlement, in batches from solve to solve."""
        n, start = len(self.choice), 0
        if must_wait_for_prices(self.plan, self.settings.warmup):
            sampled = min(n, self.settings.warmup_queries)
            self.report_samples(0, sampled)
            if must_wait_for_prices(self.plan, self.settings.warmup):
                self.plan = self.planner.solve(early=True) or self.plan
        else:
            sampled = 0
        while start < n:
            stop = n if self.plan.until is None else min(n, max(self.plan.until, start + 1))
            self.decide(0, start, stop)
            # The buffered queries were sampled before they were decided.
            self.report_samples(max(start, sampled), stop) if stop > sampled else None
            start = stop

    def one_by_one(self) -> None:
        """Simulate several partitions, or settlement while the stream runs."""
        n = len(self.choice)
        sampled = 0
        if must_wait_for_prices(self.plan, self.settings.warmup):
            sampled = min(n, self.settings.warmup_queries)
            self.report_samples(0, sampled)
            if must_wait_for_prices(self.plan, self.settings.warmup):
                self.plan = self.planner.solve(early=True) or self.plan
        for j in range(n + self.overflow_after):
            if self.arrivals is not None and j < n:
                self.now = float(self.arrivals[j])
            self.settle_arrived(j)
            while self.deferred and self.deferred[0][0] <= j:
                self.decide_deferred(self.deferred.popleft()[1])
            if j >= n:
                continue
            if (self.partitions > 1 or self.arrivals is not None) and j % self.tick == 0:
                # The planner grants by accounts that are one tick old.
                self.plan = self.planner.update_grants()
                for number, account in enumerate(self.accounts):
                    self.planner.record_account(number, account)
            lane = int(self.lane[j])
            self.decide(lane, j, j + 1)
            if self.choice[j] == DEFERRED:
                self.deferred.append((j + self.overflow_after, j))
                self.overflowed += 1
            else:
                self.queue_outcome(lane, j)
            if j >= sampled:
                if self.partitions > 1:
                    self.observe(j, j + 1)
                else:
                    self.settle_arrived(j)
                    self.report_samples(j, j + 1)

    def decide_deferred(self, j: int) -> None:
        """Decide a deferred query on the overflow lane."""
        lane = self.partitions
        self.decide(lane, j, j + 1)
        self.queue_outcome(lane, j)

    def queue_outcome(self, lane: int, j: int) -> None:
        """Queue the outcome of a query, which arrives `settle_after` queries later."""
        i = int(self.choice[j])
        if i < 0 or self.settle_after is None or self.actual is None:
            return
        actual = int(self.actual[j, i])
        if not self.real_costs and self.is_over_budget(j, i, actual):
            actual = 0
        self.outcomes.append((j + self.settle_after, lane, j, actual))

    def is_over_budget(self, j: int, i: int, actual: int) -> bool:
        """Count a true cost against its budgets; return whether it exceeds what is left of one."""
        if j not in self.columns:
            keys: list[int | CounterKey] = [i]
            limits = [int(self.plan.budgets[i])]
        else:
            drawn, names = self.columns[j]
            keys, limits = [], []
            for number, column in enumerate(drawn):
                if column >= 0 and self.plan.counters.budgets[number].unit == "usd":
                    keys.append(names[column])
                    limits.append(self.limit_of(names[column]))
        if any(self.spent.get(key, 0) + actual > limit for key, limit in zip(keys, limits, strict=True)):
            return True
        for one in keys:
            self.spent[one] = self.spent.get(one, 0) + actual
        return False

    def limit_of(self, key: CounterKey) -> int:
        """Return the limit of a counter, which the plan may not know yet."""
        column = self.plan.counters.column_of.get(key)
        if column is not None:
            return int(self.plan.budgets[column])
        budget = next(one for one in self.plan.counters.budgets if one.name == key[0])
        return budget.limit_of(key[1])

    def settle_arrived(self, j: int) -> None:
        """Settle the outcomes that arrive before query j + 1 is decided."""
        while self.outcomes and self.outcomes[0][0] <= j:
            _, lane, row, actual = self.outcomes.popleft()
            drawn = self.columns.pop(row, None)
            i, reserved = int(self.choice[row]), int(self.charge[row, self.choice[row]])
            account, columns = self.accounts[lane], None
            if drawn is not None:
                # Columns may have moved since, because the plan listed values in another order.
                at = {key: column for column, key in enumerate(account.keys)}
                columns = np.array([[at[drawn[1][c]] if c >= 0 else -1 for c in drawn[0]]])
            self.charged[row] = actual
            if self.reserve is not None and actual > 0:
                name, level = self.plan.models[i], self.reserve.level
                offset = follow(offset_of(self.offsets, name, level), level, 1, actual > reserved)
                self.offsets[name] = [level, offset]
            self.accounts[lane] = account.settle(
                np.array([i]), np.array([reserved]), np.array([actual]), columns
            )
