"""Check of bills against totals recomputed from the topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from routing.policy.plan import Plan
from streams.audit.counters import check_counter_bill
from streams.audit.findings import Findings
from streams.audit.ledgers import Budgets
from streams.audit.topic_records import TopicRecord
from streams.audit.totals import LaneTotals, Totals
from streams.ledger.period_messages import newest_periods
from streams.ledger.period_summary import PeriodSummary
from streams.ledger.record import LedgerRecord

GROWING_FIELDS = ("reserved", "served", "settled", "settlements", "failed")
COUNT_FIELDS = ("arrived", "unserved", "deferred", "again")


def newest_bills(entries: Iterable[TopicRecord]) -> dict[int, PeriodSummary]:
    """Return the newest bill of each period."""
    return newest_periods((entry.key, entry.value) for entry in entries)


def check_closing(
    bills: Mapping[int, PeriodSummary], plan: Plan, ledgers: Sequence[LedgerRecord], findings: Findings
) -> None:
    """Check that bills close in the order of periods, and only after their period is over.

    Parameters
    ----------
    bills : mapping of int to PeriodSummary
        Read after the plan and before the ledgers.
    plan : Plan
    ledgers : sequence of LedgerRecord
        By lane.
    findings : Findings
    """
    last = max((period for period, bill in bills.items() if bill.closed), default=0)
    for period, bill in sorted(bills.items()):
        inside = [
            lane for lane, ledger in enumerate(ledgers[: plan.lanes]) if ledger.account.period <= period
        ]
        if bill.closed and inside:
            findings.add("bill", f"period {period}: its bill is closed, and lane {inside[0]} is not past it")
        if not bill.closed and period < last:
            findings.add("bill", f"period {period}: its bill is not closed, and that of period {last} is")
        elif bill.settling and period <= plan.billed:
            findings.add("bill", f"period {period}: the plan treats its bill as final, but it is not")


def check_bills(
    bills: Mapping[int, PeriodSummary], totals: Totals, budgets: Budgets, findings: Findings
) -> None:
    """Check that final amounts of bills equal the topics' sums, and that others do not exceed them.

    Parameters
    ----------
    bills : mapping of int to PeriodSummary
        Read before the ledgers up to which the topics are summed.
    totals : Totals
    budgets : Budgets
    findings : Findings
    """
    for period, bill in sorted(bills.items()):
        summed = _Summed(totals, period)
        for name in GROWING_FIELDS:
            exact = not bill.settling or (bill.closed and name in ("reserved", "served"))
            _compare(bill, name, _by_model(bill, name), summed.by_model(name), exact, findings)
        if not bill.settling:
            _compare(bill, "charged", _by_model(bill, "charged"), summed.charged(), True, findings)
        for name in COUNT_FIELDS:
            counts = Counter({"queries": getattr(bill, name)}), Counter({"queries": summed.count(name)})
            _compare(bill, name, *counts, bill.closed, findings)
        _check_dead(bill, summed.count("dead"), totals.unplaced_dead.total(), findings)
        _check_lapsed(bill, summed, findings)
        _check_budgets(bill, budgets, findings)
        removed = list(budgets.removed_in(period))
        check_counter_bill(bill, summed.parts, budgets.last_of(period), removed, findings)


def check_up_to_date(
    bills: Mapping[int, PeriodSummary],
    plan: Plan,
    ledgers: Sequence[LedgerRecord],
    totals: Totals,
    findings: Findings,
) -> None:
    """Check, after the last record has been written, that no bill is missing, behind or still to be closed.

    Parameters
    ----------
    bills : mapping of int to PeriodSummary
        Read last.
    plan : Plan
    ledgers : sequence of LedgerRecord
        By lane.
    totals : Totals
    findings : Findings
    """
    remedy = "a running planner catches up"
    forgotten = max(ledger.forgotten for ledger in ledgers)
    for period in sorted({period for _, period in totals.sums} | set(bills)):
        bill = bills.get(period)
        if bill is None:
            if period > forgotten:
                findings.add("bill", f"period {period}: there is no bill; {remedy}")
            continue
        if not bill.closed and all(ledger.account.period > period for ledger in ledgers[: plan.lanes]):
            findings.add("bill", f"period {period}: its bill is not closed, every lane is past it; {remedy}")
        summed = _Summed(totals, period)
        expected = {name: summed.by_model(name) for name in GROWING_FIELDS} | {
            "lapsed": _lapsed(ledgers, period)
        }
        for name, by_model in expected.items():
            billed = _by_model(bill, name)
            for model in sorted(by_model):
                if billed[model] < by_model[model]:
                    findings.add(
                        "bill",
                        f"the bill of period {period}, {model}: {name} is {billed[model]}, and "
                        f"{by_model[model]} should be; {remedy}",
                    )
    billed_dead = sum(bill.dead for bill in bills.values())
    dead = sum(sums.dead for sums in totals.sums.values()) + totals.unplaced_dead.total()
    if set(range(1, plan.period + 1)) <= bills.keys() and billed_dead < dead:
        findings.add("bill", f"all bills have {billed_dead} dead letters, the topic {dead}; {remedy}")


def _lapsed(ledgers: Sequence[LedgerRecord], period: int) -> Counter[str]:
    """Return lapsed queries by LLM from the accounts that lanes still keep; no topic records them."""
    total: Counter[str] = Counter()
    for ledger in ledgers:
        if (account := ledger.account_of(period)) is not None:
            total.update(dict(zip(ledger.models, account.lapsed.tolist(), strict=False)))
    return total


class _Summed:
    """Totals of one period over all lanes."""

    def __init__(self, totals: Totals, period: int) -> None:
        self.parts: list[LaneTotals] = [sums for (_, number), sums in totals.sums.items() if number == period]

    def by_model(self, name: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(getattr(part, name))
        return total

    def charged(self) -> Counter[str]:
        reserved, settled, freed = (self.by_model(name) for name in ("reserved", "settled", "freed"))
        return Counter({model: reserved[model] - freed[model] + settled[model] for model in reserved})

    def count(self, name: str) -> int:
        if name == "arrived":  # the overflow lane counts deferred queries
            return self.by_model("served").total() + self.count("unserved") - self.count("again")
        return sum(getattr(part, name) for part in self.parts)


def _by_model(bill: PeriodSummary, name: str) -> Counter[str]:
    return Counter(dict(zip(bill.models, getattr(bill, name), strict=True)))


def _compare(
    bill: PeriodSummary,
    name: str,
    billed: Counter[str],
    summed: Counter[str],
    exact: bool,
    findings: Findings,
) -> None:
    for key in sorted(billed.keys() | summed.keys()):
        if billed[key] > summed[key] or (exact and billed[key] != summed[key]):
            findings.add(
                "bill",
                f"the bill of period {bill.period}, {key}: {name} is {billed[key]}, "
                f"{summed[key]} by the topics",
            )


def _check_dead(bill: PeriodSummary, placed: int, unplaced: int, findings: Findings) -> None:
    """Compare dead letters; the period of `unplaced` letters is unknown."""
    if bill.dead > placed + unplaced or (bill.closed and bill.dead < placed):
        findings.add(
            "bill", f"the bill of period {bill.period}: {bill.dead} dead letters, {placed} by the topics"
        )


def _check_lapsed(bill: PeriodSummary, summed: _Summed, findings: Findings) -> None:
    served, settlements = summed.by_model("served"), summed.by_model("settlements")
    for model, lapsed in _by_model(bill, "lapsed").items():
        still_open = served[model] - settlements[model]
        if lapsed > still_open or (not bill.settling and lapsed != still_open):
            findings.add(
                "bill",
                f"the bill of period {bill.period}, {model}: {lapsed} lapsed, {still_open} have no "
                "outcome by the topics",
            )


def _check_budgets(bill: PeriodSummary, budgets: Budgets, findings: Findings) -> None:
    """Compare with the budgets in force last. The budget of a removed LLM is the amount that it spent."""
    last = budgets.last_of(bill.period)
    if bill.budgets is None or last is None or not bill.closed:
        return
    charged, removed = _by_model(bill, "charged"), budgets.removed_in(bill.period)
    for model, billed in _by_model(bill, "budgets").items():
        if model in removed and min(last[model], charged[model]) <= billed <= last[model]:
            continue
        if billed != last.get(model, 0):
            findings.add(
                "bill",
                f"the bill of period {bill.period}, {model}: its budget is {billed}, "
                f"{last.get(model, 0)} by the plans",
            )
