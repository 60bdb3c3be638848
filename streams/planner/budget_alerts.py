"""Thresholds that the budgets of a period have reached, and forecasts of budgets that are used up early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from routing.budgets.money import to_usd
from routing.planning.period_rule import PeriodRule
from routing.policy.plan import Plan
from streams.ledger.period_summary import PeriodSummary
from streams.messages.budget_event import EXHAUSTION, USED, BudgetEvent

THRESHOLDS = {"50": 0.5, "80": 0.8, "100": 1.0}
"""Share of a limit by the name that bills record."""

FULL_SHARE = 0.99
"""Share that counts as all of a limit: the next query must fit as a whole, so a little always stays."""

PACE_SHARE = 0.1
"""Share of a period over which the present rate is measured."""

EARLY_END = 0.95
"""Share of the period before which a budget must be used up for a forecast. Prices spend a budget evenly, so
most budgets end about with the period."""

MIN_FORECAST_SHARE = 0.2
"""Share of a limit that must be used before a forecast: a few expensive queries prove nothing."""

STEP_SHARE = 0.01
"""Share of a period between two recorded states."""


class Use(NamedTuple):
    """One counter that is watched, in its smallest unit."""

    budget: str
    value: str | None
    unit: str
    limit: int
    charged: int

    @property
    def name(self) -> str:
        """Name of the counter."""
        return self.budget if self.value is None else f"{self.budget}={self.value}"


class BudgetAlerts:
    """Alerts of the plan's period. The bill records them, so that no other planner repeats them."""

    def __init__(self) -> None:
        self._period = 0
        self._history: list[tuple[float, Mapping[str, int]]] = []

    def update(
        self, summary: PeriodSummary, before: Mapping[str, list[str]], plan: Plan, now: float
    ) -> tuple[dict[str, list[str]], list[BudgetEvent]]:
        """Return all alerts of the period by name of the counter, and the events of the new ones.

        Parameters
        ----------
        summary : PeriodSummary
            Of the plan's period, with limits.
        before : mapping of str to list of str
            Alerts that the published bill records.
        plan : Plan
        now : float
            Seconds since the epoch.
        """
        rule = PeriodRule.of(plan.horizon, plan.began_at, plan.ends_at)
        progress = rule.progress(summary.arrived, now - plan.began_at)
        uses = list(budgets_to_watch(summary, plan))
        start, charged_then = self._reference(summary.period, progress, uses)
        alerts, events = dict(before), []
        for use in uses:
            known = before.get(use.name, [])
            share = use.charged / use.limit
            new: dict[str, float] = {
                name: threshold
                for name, threshold in THRESHOLDS.items()
                if name not in known and share >= min(threshold, FULL_SHARE)
            }
            exhausted_at = None
            if (
                EXHAUSTION not in known
                and progress >= PACE_SHARE
                and MIN_FORECAST_SHARE <= share < FULL_SHARE
            ):
                drawn, left = use.charged - charged_then.get(use.name, 0), use.limit - use.charged
                if drawn > 0 and progress > start:
                    exhausted_at = progress + left * (progress - start) / drawn
            is_early = exhausted_at is not None and exhausted_at < EARLY_END
            if not new and not is_early:
                continue
            alerts[use.name] = [*known, *new, *[EXHAUSTION] * is_early]
            form = _event(use, summary.period, share, progress, now, plan.ends_at)
            events += [BudgetEvent(USED, **form, threshold=threshold) for threshold in new.values()]
            if is_early:
                events.append(BudgetEvent(EXHAUSTION, **form, exhausted_at=exhausted_at))
        return alerts, events

    def _reference(self, period: int, progress: float, uses: list[Use]) -> tuple[float, Mapping[str, int]]:
        """Return the state from which the present rate is measured; after a failover, the period's start."""
        if period != self._period:
            self._period, self._history = period, [(0.0, {})]
        history = self._history
        while len(history) > 1 and history[1][0] <= progress - PACE_SHARE:
            del history[0]
        if progress >= history[-1][0] + STEP_SHARE:
            history.append((progress, {use.name: use.charged for use in uses}))
        return history[0]


def budgets_to_watch(summary: PeriodSummary, plan: Plan) -> Iterator[Use]:
    """Yield the counters with a limit; rates and removed budgets have no alerts."""
    if plan.per_llm:
        limits = summary.budgets or []
        for i, limit in enumerate(limits):
            if limit > 0 and plan.active[i]:
                yield Use(summary.models[i], None, "usd", limit, summary.charged[i])
        return
    limited = {one.name for one in plan.counters.budgets if one.models and not one.is_rate}
    for one in summary.counters:
        if one.limit and one.budget in limited:
            yield Use(one.budget, one.value, one.unit, one.limit, one.charged)


def _event(
    use: Use, period: int, share: float, progress: float, now: float, ends_at: float | None
) -> dict[str, Any]:
    limit, used = (float(to_usd(a)) if use.unit == "usd" else a for a in (use.limit, use.charged))
    return {
        "period": period,
        "budget": use.budget,
        "value": use.value,
        "unit": use.unit,
        "limit": limit,
        "used": used,
        "share": share,
        "progress": progress,
        "at": now,
        "ends_at": ends_at,
    }
