"""The planner's part of bills: the summaries of periods to publish, and the periods whose bill is final.

The source is the lanes' ledgers. A lane keeps an account while it may change, and then until the plan says
that its bill is final. Therefore no bill is lost if the planner dies before it publishes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from confluent_kafka import Message

from routing.policy.plan import Plan
from streams.ledger.period_messages import newest_periods, period_messages, period_of_key
from streams.ledger.period_summary import CounterTotal, PeriodSummary, all_past, summarise
from streams.ledger.record import LedgerRecord
from streams.messages.budget_event import BudgetEvent
from streams.planner.budget_alerts import BudgetAlerts


def open_summaries(messages: Iterable[Message], billed: int) -> list[PeriodSummary]:
    """Return the newest summary of each period after `billed` from messages of the topic of periods."""
    keyed = ((message.key(), message.value()) for message in messages)
    later = ((key, value) for key, value in keyed if key is not None and period_of_key(key) > billed)
    return list(newest_periods(later).values())


class BillUpdates:
    """The summaries of every period of which some lane still has an account.

    Parameters
    ----------
    published : iterable of PeriodSummary
        The newest on the topic of periods, of those after `Plan.billed`.
    """

    def __init__(self, published: Iterable[PeriodSummary] = ()) -> None:
        self._published = {summary.period: summary for summary in published}
        self._ledgers: dict[int, LedgerRecord] = {}
        self._alerts = BudgetAlerts()
        self.events: list[BudgetEvent] = []
        """Events of the pending summaries."""

    def pending(
        self, plan: Plan, ledgers: Mapping[int, LedgerRecord], now: float | None = None
    ) -> list[PeriodSummary]:
        """Return the summaries that differ from the published ones, oldest first.

        Parameters
        ----------
        plan : Plan
            The last that was published.
        ledgers : mapping of int to LedgerRecord
            Of all lanes.
        now : float, optional
            Seconds since the epoch; by default, when the plan was made.
        """
        forgotten = _forgotten_through(plan, ledgers)
        changed, self.events = [], []
        for period in sorted(self._changed_periods(plan, ledgers)):
            if not forgotten < period <= plan.period:
                continue
            published = self._published.get(period)
            has_account = any(ledger.account_of(period) is not None for ledger in ledgers.values())
            if published is None and period < plan.period and not has_account:
                continue  # no lane took part in it
            summary = summarise(period, plan.models, self._budgets(period, plan), plan.lanes, ledgers)
            if period == plan.period:
                summary = _with_limits(summary, plan)
                known = {} if published is None else published.alerts
                at = plan.created_at if now is None else now
                alerts, self.events = self._alerts.update(summary, known, plan, at)
                summary = replace(summary, alerts=alerts)
            elif published is not None:
                if published.counters:
                    summary = _with_known_limits(summary, published)
                summary = replace(summary, alerts=published.alerts)
            if summary != published:
                changed.append(summary)
        return changed

    def messages(self, summary: PeriodSummary) -> Iterator[tuple[bytes, bytes]]:
        """Return key and value of the messages of a pending summary."""
        return period_messages(summary, self._published.get(summary.period))

    def mark_written(self, summaries: Iterable[PeriodSummary]) -> None:
        """Record that these summaries are on the topic."""
        self._published |= {summary.period: summary for summary in summaries}

    def final_through(self, plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> int:
        """Return the last period up to which every bill is published and final, for `Plan.billed`."""
        period = _forgotten_through(plan, ledgers)
        while period + 1 < plan.period:
            published = self._published.get(period + 1)
            if published is None:
                # without a summary no lane took part in the period so far
                is_final = all_past(period + 1, plan.lanes, ledgers)
            else:
                is_final = not published.settling
            if not is_final:
                break
            period += 1
        self._published = {number: one for number, one in self._published.items() if number > period}
        return period

    def _changed_periods(self, plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> set[int]:
        """Return the periods whose sum may have changed since the last call: few of hundreds."""
        changed = {plan.period} if self._ledgers else {plan.period, *self._published}
        for lane, ledger in ledgers.items():
            before = self._ledgers.get(lane)
            if before is ledger:
                continue
            for account in ledger.accounts:
                if before is None or before.account_of(account.period) is not account:
                    changed.add(account.period)
            last = 0 if before is None else before.account.period
            # periods that the lane has left since; it may have been the last lane in them
            changed.update(range(max(last, _forgotten_through(plan, ledgers) + 1), ledger.account.period))
        self._ledgers = dict(ledgers)
        return changed

    def _budgets(self, period: int, plan: Plan) -> list[int] | None:
        """Return the budgets of a period in picodollars; a later change of the catalogue does not apply."""
        if period == plan.period:
            return plan.budgets.tolist() if plan.per_llm else None
        published = self._published.get(period)
        if published is None or published.budgets is None:
            return None
        return published.budgets + [0] * (len(plan.models) - len(published.budgets))


def _with_limits(summary: PeriodSummary, plan: Plan) -> PeriodSummary:
    """Return the summary of the plan's period with the limits in force."""
    if plan.per_llm:
        budgets = plan.budgets_in_force(np.array(summary.charged, dtype=np.int64))
        return replace(summary, budgets=budgets.tolist())
    known = {(one.budget, one.value): one for one in summary.counters}
    units = [plan.counters.budgets[number].unit for number in plan.counters.budget_of.tolist()]
    counters = []
    rows = zip(plan.counters.keys, units, plan.budgets.tolist(), plan.open.tolist(), strict=True)
    for key, unit, limit, is_open in rows:
        total = known.pop(key, None)
        charged, by_llm = (0, {}) if total is None else (total.charged, total.by_llm)
        counters.append(CounterTotal(*key, unit, charged, by_llm, limit if is_open else min(limit, charged)))
    return replace(summary, counters=[*counters, *known.values()])


def _with_known_limits(summary: PeriodSummary, published: PeriodSummary) -> PeriodSummary:
    """Return the summary of an earlier period with the limits of its published bill."""
    limits = {one.name: one.limit for one in published.counters}
    known = {one.name: one for one in summary.counters}
    counters = [replace(one, limit=limits.get(one.name)) for one in summary.counters]
    missing = [replace(one, charged=0, by_llm={}) for one in published.counters if one.name not in known]
    return replace(summary, counters=[*counters, *missing])


def _forgotten_through(plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> int:
    """Return the last period whose bill cannot be summed any more from the accounts that lanes keep."""
    return max([plan.billed, *(ledger.forgotten for ledger in ledgers.values())])
