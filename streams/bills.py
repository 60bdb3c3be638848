"""The planner's part of bills: which summaries of periods have to be written, and which are written for good.

The lanes' ledgers are the source. A lane keeps an account as long as it may change, and then until the plan
says that its bill is final: so nothing is lost when the planner dies with the last state not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from routing.plan import Plan
from streams.ledger import LedgerRecord
from streams.periods import PeriodSummary, all_past, summarise


class Bills:
    """Every period that some lane still has an account of.

    Parameters
    ----------
    told : iterable of PeriodSummary
        As the topic of periods has them, those after `Plan.billed`.
    """

    def __init__(self, told: Iterable[PeriodSummary] = ()) -> None:
        self._told = {summary.period: summary for summary in told}
        self._seen: dict[int, LedgerRecord] = {}

    def due(self, plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> list[PeriodSummary]:
        """Summaries that differ from what is told, the oldest first.

        Parameters
        ----------
        plan : Plan
            The last that was published.
        ledgers : mapping of int to LedgerRecord
            All that there are, by lane.
        """
        first = _first(plan, ledgers)
        found = []
        for period in sorted(self._touched(plan, ledgers)):
            if not first < period <= plan.period:
                continue
            told = self._told.get(period)
            known = [ledger for ledger in ledgers.values() if ledger.account_of(period) is not None]
            if told is None and period < plan.period and not known:
                continue  # nobody had a part in it
            summary = summarise(period, plan.models, self._budgets(period, plan), plan.lanes, ledgers)
            if summary != told:
                found.append(summary)
        return found

    def wrote(self, summaries: Iterable[PeriodSummary]) -> None:
        """These are on the topic now."""
        self._told |= {summary.period: summary for summary in summaries}

    def final(self, plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> int:
        """The period up to which every bill is told and none can change; for `Plan.billed`."""
        period = _first(plan, ledgers)
        while period + 1 < plan.period:
            told = self._told.get(period + 1)
            # nobody had a part in a period that nothing is told of, or it would have been due
            over = all_past(period + 1, plan.lanes, ledgers) if told is None else not told.settling
            if not over:
                break
            period += 1
        self._told = {number: told for number, told in self._told.items() if number > period}
        return period

    def _touched(self, plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> set[int]:
        """Periods whose sum may be another than at the last call: of hundreds a few are."""
        touched = {plan.period} if self._seen else {plan.period, *self._told}
        for lane, ledger in ledgers.items():
            before = self._seen.get(lane)
            if before is ledger:
                continue
            for account in ledger.accounts:
                if before is None or before.account_of(account.period) is not account:
                    touched.add(account.period)
            left = 0 if before is None else before.account.period
            # those that the lane has left, in which it may have been the last
            touched.update(range(max(left, _first(plan, ledgers) + 1), ledger.account.period))
        self._seen = dict(ledgers)
        return touched

    def _budgets(self, period: int, plan: Plan) -> list[int] | None:
        """Picodollars: a change of the catalogue is none of the business of a period before it."""
        if period == plan.period:
            return plan.budgets.tolist()
        told = self._told.get(period)
        if told is None or told.budgets is None:
            return None
        return told.budgets + [0] * (len(plan.models) - len(told.budgets))


def _first(plan: Plan, ledgers: Mapping[int, LedgerRecord]) -> int:
    """Bills up to here are no sum of what lanes still keep."""
    return max([plan.billed, *(ledger.forgotten for ledger in ledgers.values())])
