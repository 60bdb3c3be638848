"""State of the planner that others read: the plan in force, accounts of the lanes, progress of the period."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from routing.budgets.counters import Counters
from routing.planning.counter_prices import CounterPricing, shares_of
from routing.planning.lane_accounts import LaneAccounts
from routing.planning.period_rule import PeriodRule
from routing.planning.sample_count import SampleCount
from routing.planning.samples import Samples
from routing.planning.schedule import PlanningSettings
from routing.planning.traffic import Traffic
from routing.policy.account import Account
from routing.policy.plan import Plan


class PlannerView:
    """State of a planner. Only the planner's methods change it.

    Parameters
    ----------
    settings : PlanningSettings
    plan : Plan
        Before the first period.
    lanes : int
        Partitions of the queries.
    overflow : bool
    clock : callable
    """

    def __init__(
        self,
        settings: PlanningSettings,
        plan: Plan,
        lanes: int,
        overflow: bool,
        clock: Callable[[], float],
    ) -> None:
        self.settings, self._plan, self._clock = settings, plan, clock
        self._samples, self._count = Samples(settings), SampleCount(settings)
        self._lanes = LaneAccounts(lanes, overflow, len(plan.models), settings.horizon, self._counters)

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._plan

    @property
    def _counters(self) -> Counters | None:
        return None if self._plan.per_llm else self._plan.counters

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Newest account of each lane, the overflow lane last."""
        return tuple(self._lanes.accounts)

    @property
    def traffic(self) -> Traffic:
        """Traffic by lane."""
        return self._lanes.traffic

    @property
    def observed(self) -> int:
        """Samples counted since the last restart."""
        return self._count.observed

    @property
    def queued_samples(self) -> int:
        """Samples that wait until a later solve is due."""
        return self._samples.queued

    @property
    def missing_samples(self) -> int:
        """Samples missing until the next solve; 0 when it is due, a large number when no solve follows."""
        return self._count.missing(self._plan)

    @property
    def arrived(self) -> int:
        """Queries of this period that arrived on the lanes."""
        return self._lanes.arrived

    @property
    def decided(self) -> int:
        """Queries of this period that were decided; see `LaneAccounts.decided`."""
        return self._lanes.decided

    @property
    def deferred_backlog(self) -> float:
        """Number of arriving queries that the deferred ones stand for."""
        return self._lanes.deferred_backlog

    @property
    def period_is_over(self) -> bool:
        """True if the period of the plan in force has ended."""
        return self._rule.is_over(self.decided, self._clock() - self._plan.began_at)

    @property
    def _rule(self) -> PeriodRule:
        return PeriodRule.of(self._plan.horizon, self._plan.began_at, self._plan.ends_at)

    @property
    def expected_remaining(self) -> float:
        """Queries that the rest of the period is expected to bring."""
        return self._rule.expected_remaining(self.arrived, self._clock() - self._plan.began_at)

    @property
    def grant_rounds_left(self) -> float:
        """Grant rounds until the end of the period at the present pace; 0 while the pace is unknown."""
        return self._lanes.traffic.grant_rounds_left(self.expected_remaining)

    def is_behind(self, rounds: float) -> bool:
        """Return whether more queries arrived since the last grant round than one of `rounds` allows."""
        return self._lanes.traffic.uncounted > self.expected_remaining / rounds

    def _pricing(self) -> CounterPricing:
        arrivals = (
            np.zeros(len(self._plan.counters), np.int64) if self._plan.per_llm else self._lanes.seen.sum(0)
        )
        elapsed, pace = self._clock() - self._plan.began_at, None
        if elapsed > 0 and self.arrived > 0:
            pace = elapsed / self.arrived
        elif (seconds := self._rule.seconds) is not None:
            pace = seconds / self._plan.horizon
        shares = shares_of(self._plan.counters, arrivals)
        return CounterPricing(self.settings.solver, self._plan, self._lanes.charged.sum(0), shares, pace)
