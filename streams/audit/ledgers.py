"""Check of ledgers against the sums of the topics, and of charges against grants and budgets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from routing.policy.account import Account
from routing.policy.plan import Plan
from routing.policy.policy import enter_period
from streams.audit.counters import compare_counters
from streams.audit.findings import Findings
from streams.audit.topic_records import TopicRecord
from streams.audit.totals import LaneTotals, Totals, counter_name
from streams.ledger.overspending import BOUND, ESTIMATE, Overspending
from streams.ledger.record import LedgerRecord
from streams.ledger.record_log import LedgerLog


def newest_ledger(lane: int, entries: Sequence[TopicRecord], findings: Findings) -> LedgerRecord:
    """Return a lane's record in force, and report records that contradict earlier ones."""
    ledger, record = LedgerLog(), LedgerRecord.fresh(lane)
    for entry in entries:
        if not ledger.append(entry.key, entry.value) or (later := ledger.record()) is None:
            continue
        same = later.account.period == record.account.period  # a new period samples waiting queries again
        for name in (
            "next",
            "outcomes_next",
            "returned_next",
            "reservations_from",
            "revision",
            "forgotten",
            *["sampled"] * same,
        ):
            if getattr(later, name) < getattr(record, name):
                findings.add(
                    "ledger_differs",
                    f"{entry.place}: lane {lane}'s {name} goes back from "
                    f"{getattr(record, name)} to {getattr(later, name)}",
                )
        if later.lane != lane:
            findings.add("ledger_differs", f"{entry.place}: is of lane {later.lane}, not {lane}")
        record = later
    if ledger.loose:
        findings.add("ledger_differs", f"lane {lane}: an account was written without the lane's record")
    return record


def compare_ledgers(ledgers: Sequence[LedgerRecord], totals: Totals, findings: Findings) -> None:
    """Check that each account of the ledgers equals the sum of the topics."""
    for lane, ledger in enumerate(ledgers):
        for account in ledger.accounts:
            if account.period > 0:
                sums = totals.sums[lane, account.period]
                _compare(lane, ledger.models, account, sums, findings)
                compare_counters(lane, ledger.models, account, sums, findings)
        for number, period in totals.sums:
            if number == lane and period > ledger.forgotten and ledger.account_of(period) is None:
                findings.add("ledger_differs", f"lane {lane}: the account of period {period} is not kept")
        _compare_dead(lane, ledger, totals, findings)


def _compare(
    lane: int, models: tuple[str, ...], account: Account, sums: LaneTotals, findings: Findings
) -> None:
    charged = account.charged_by_llm
    for i, model in enumerate(models[: len(charged)]):
        for name, recorded, summed in (
            ("reserved", account.reserved[i], sums.reserved[model]),
            ("served", account.served[i], sums.served[model]),
            ("settled", account.settled[i], sums.settled[model]),
            ("settlements", account.settlements[i], sums.settlements[model]),
            ("failed", account.failed[i], sums.failed[model]),
            ("charged", charged[i], sums.charged(model)),
        ):
            if recorded != summed:
                findings.add(
                    "ledger_differs",
                    f"lane {lane}, period {account.period}, {model}: {name} is {recorded} in "
                    f"the ledger, {summed} by the topics",
                )
        if account.lapsed[i] > account.served[i] - account.settlements[i]:
            findings.add(
                "ledger_differs",
                f"lane {lane}, period {account.period}, {model}: more reservations lapsed than were open",
            )
    for name in ("unserved", "deferred", "again"):
        if getattr(account, name) != getattr(sums, name):
            findings.add(
                "ledger_differs",
                f"lane {lane}, period {account.period}: {name} is {getattr(account, name)} "
                f"in the ledger, {getattr(sums, name)} by the topics",
            )
    decided = int(account.served.sum()) + account.unserved + account.deferred
    if account.arrived + account.again != decided:
        findings.add(
            "ledger_differs",
            f"lane {lane}, period {account.period}: {account.arrived} arrived and {account.again} "
            f"were returned, {decided} were decided",
        )


def _compare_dead(lane: int, ledger: LedgerRecord, totals: Totals, findings: Findings) -> None:
    """Compare dead letters over all periods of the ledger; the period of some letters is unknown."""
    accounts = ledger.accounts
    periods = {account.period for account in accounts}
    minimum = sum(totals.sums[lane, period].dead for period in periods)
    in_all = sum(sums.dead for (number, _), sums in totals.sums.items() if number == lane)
    recorded = sum(account.dead for account in accounts)
    first = min(periods | {period for number, period in totals.sums if number == lane})
    maximum = minimum + totals.unplaced_dead[lane]
    if not minimum <= recorded <= maximum or (
        first in periods and recorded != in_all + totals.unplaced_dead[lane]
    ):
        findings.add(
            "ledger_differs", f"lane {lane}: {recorded} dead letters in the ledger, {maximum} on the topic"
        )


class Budgets:
    """Budgets of each period by LLM in picodollars: the maximum, and those in force last."""

    def __init__(self) -> None:
        self._maximum: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._last: dict[int, Plan] = {}

    def record(self, plan: Plan) -> None:
        """Record the budgets of a plan. Grants under a higher budget remain when it is lowered."""
        maximum, last = self._maximum[plan.period], self._last.get(plan.period)
        for name, budget in zip(plan.counters.names, plan.budgets.tolist(), strict=True):
            maximum[name] = max(maximum[name], budget)
        if last is None or last.revision <= plan.revision:
            self._last[plan.period] = plan

    def maximum_of(self, period: int) -> Mapping[str, int] | None:
        """Return the maximum budgets in picodollars by LLM, or None if no plan of the period is known."""
        return self._maximum.get(period)

    def removed_in(self, period: int) -> Collection[str]:
        """Return the LLMs that were removed before the period ended."""
        plan = self._last.get(period)
        if plan is None:
            return ()
        return [name for name, is_open in zip(plan.counters.names, plan.open, strict=True) if not is_open]

    def last_of(self, period: int) -> Mapping[str, int] | None:
        """Return the last budgets in picodollars by LLM, or None if no plan of the period is known."""
        plan = self._last.get(period)
        return None if plan is None else dict(zip(plan.counters.names, plan.budgets.tolist(), strict=True))


def check_lane_grants(
    plan: Plan, ledgers: Sequence[LedgerRecord], totals: Totals, findings: Findings
) -> None:
    """Check that no lane charged more than its grant, except by settlements above their reservation."""
    for lane, ledger in enumerate(ledgers[: plan.lanes]):
        account = ledger.account
        if account.period != plan.period or ledger.models != plan.models[: len(ledger.models)]:
            continue
        account = enter_period(account, plan)
        columns = plan.lane_columns(lane, account.counters)
        available = account.available(columns.granted)
        beyond = totals.sums[lane, plan.period].beyond_by_counter(plan.per_llm)
        names = plan.models if account.counters is None else account.counters.names
        for i, name in enumerate(names):
            if available[i] + beyond[name] < 0:
                findings.add(
                    "rights",
                    f"lane {lane}, {name}: granted {columns.granted[i]} less released {account.released[i]} "
                    f"less charged {account.charged[i]} is {available[i]}; "
                    f"settlements explain {beyond[name]}",
                )


def check_granted_budgets(
    plan: Plan, ledgers: Sequence[LedgerRecord], budgets: Budgets, findings: Findings
) -> None:
    """Check that all grants less released amounts are at most the budget.

    The plan must have been read before the ledgers.
    """
    maximum = budgets.maximum_of(plan.period) or {}
    outstanding = plan.granted.sum(0)
    for ledger in ledgers[: plan.lanes]:
        account = ledger.account
        if account.period > plan.period:
            return  # the period has ended
        if account.period == plan.period:
            outstanding = outstanding - enter_period(account, plan).released[: len(outstanding)]
    for i, name in enumerate(plan.counters.names):
        if outstanding[i] > maximum.get(name, 0):
            findings.add(
                "rights",
                f"{name}: granted less released is {outstanding[i]}; the budget is {maximum.get(name)}",
            )


def check_spending(totals: Totals, budgets: Budgets, findings: Findings) -> None:
    """Check that no period's charges exceed its budgets, except by settlements above their reservation.

    Real cost above a budget is a finding. It is a violation if every query of the LLM reserved a bound.
    """
    by_period: defaultdict[int, LaneTotals] = defaultdict(LaneTotals)
    for (_, period), sums in totals.sums.items():
        for name in ("reserved", "served", "bounded", "settled", "freed", "beyond", "drawn", "beyond_of"):
            getattr(by_period[period], name).update(getattr(sums, name))
    findings.compared = True
    for period, sums in sorted(by_period.items()):
        budget = budgets.maximum_of(period)
        findings.overdrawn_pico += sums.beyond.total()
        if budget is None:
            findings.notes.append(f"period {period}: its budgets are no longer known")
            continue
        for key, amount in sums.drawn.items():
            name = counter_name(key)
            limit = budget.get(name, 0)
            if amount > limit + sums.beyond_of[key]:
                findings.add(
                    "overspent",
                    f"period {period}, budget {name}: {amount} charged of {limit}; "
                    f"settlements explain {sums.beyond_of[key]}",
                )
        for model in () if sums.drawn else sums.reserved:
            limit, amount = budget.get(model, 0), sums.charged(model)
            if amount > limit + sums.beyond[model]:
                findings.add(
                    "overspent",
                    f"period {period}, {model}: {amount} charged of {limit}; "
                    f"settlements explain {sums.beyond[model]}",
                )
            if amount > limit:
                _report_overspending(period, model, limit, sums, findings)


def _report_overspending(period: int, model: str, budget: int, sums: LaneTotals, findings: Findings) -> None:
    bounded, served = sums.bounded[model], sums.served[model]
    overspending = Overspending(
        period,
        model,
        budget,
        sums.settled[model],
        sums.freed[model],
        sums.reserved[model] - sums.freed[model],
        BOUND if bounded == served else ESTIMATE,
    )
    findings.overspending.append(overspending)
    if overspending.real and overspending.reserve == BOUND:
        findings.add("beyond_bound", f"period {period}: {overspending.text()}")
