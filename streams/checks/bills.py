"""Bills against the topics: what those read who answer for the money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from routing.plan import Plan
from streams.checks.ledgers import Budgets
from streams.checks.sums import Books, Sums
from streams.checks.verdict import Verdict
from streams.ledger import LedgerRecord
from streams.periods import PeriodSummary, decode_period

GROWING = ("reserved", "served", "settled", "settlements")
COUNTED = ("arrived", "unserved", "deferred")


def newest_bills(values: Iterable[bytes | None]) -> dict[int, PeriodSummary]:
    """The last state of each period, by period."""
    found = (decode_period(value) for value in values if value is not None)
    return {summary.period: summary for summary in found}


def check_closing(
    bills: Mapping[int, PeriodSummary], plan: Plan, ledgers: Sequence[LedgerRecord], verdict: Verdict
) -> None:
    """Bills are closed when their periods are over, in the order of periods, and not before.

    Parameters
    ----------
    bills : mapping of int to PeriodSummary
        Read after the plan and before the ledgers.
    plan : Plan
    ledgers : sequence of LedgerRecord
        By lane.
    verdict : Verdict
    """
    last = max((period for period, bill in bills.items() if bill.closed), default=0)
    for period, bill in sorted(bills.items()):
        inside = [lane for lane, one in enumerate(ledgers[: plan.lanes]) if one.account.period <= period]
        if bill.closed and inside:
            verdict.add("bill", f"period {period}: its bill is closed, and lane {inside[0]} is not past it")
        if not bill.closed and period < last:
            verdict.add("bill", f"period {period}: its bill is not closed, and that of period {last} is")
        elif bill.settling and period <= plan.billed:
            verdict.add("bill", f"period {period}: the plan takes its bill for final, and it is not")


def check_bills(bills: Mapping[int, PeriodSummary], books: Books, budgets: Budgets, verdict: Verdict) -> None:
    """Bills are sums of the topics: of as much as the planner has seen, and of all that they call final.

    Parameters
    ----------
    bills : mapping of int to PeriodSummary
        Read before the ledgers up to which topics are summed.
    books : Books
    budgets : Budgets
    verdict : Verdict
    """
    for period, bill in sorted(bills.items()):
        summed = _Summed(books, period)
        for name in GROWING:
            exact = not bill.settling or (bill.closed and name in ("reserved", "served"))
            _compare(bill, name, _told(bill, name), summed.by_model(name), exact, verdict)
        if not bill.settling:
            _compare(bill, "charged", _told(bill, "charged"), summed.charged(), True, verdict)
        for name in COUNTED:
            counts = Counter({"queries": getattr(bill, name)}), Counter({"queries": summed.count(name)})
            _compare(bill, name, *counts, bill.closed, verdict)
        _check_dead(bill, summed.count("dead"), books.unplaced_dead.total(), verdict)
        _check_lapsed(bill, summed, verdict)
        _check_budgets(bill, budgets, verdict)


def check_up_to_date(
    bills: Mapping[int, PeriodSummary],
    plan: Plan,
    ledgers: Sequence[LedgerRecord],
    books: Books,
    verdict: Verdict,
) -> None:
    """Nothing is to come, so the planner has seen all: no bill is behind the topics or still to be closed.

    Parameters
    ----------
    bills : mapping of int to PeriodSummary
        Read last.
    plan : Plan
    ledgers : sequence of LedgerRecord
        By lane.
    books : Books
    verdict : Verdict
    """
    later = "a planner that runs catches up"
    forgotten = max(ledger.forgotten for ledger in ledgers)
    for period in sorted({period for _, period in books.sums} | set(bills)):
        bill = bills.get(period)
        if bill is None:
            if period > forgotten:
                verdict.add("bill", f"period {period}: there is no bill; {later}")
            continue
        if not bill.closed and all(one.account.period > period for one in ledgers[: plan.lanes]):
            verdict.add("bill", f"period {period}: its bill is not closed, every lane is past it; {later}")
        summed = _Summed(books, period)
        wanted = {name: summed.by_model(name) for name in GROWING} | {"lapsed": _lapsed(ledgers, period)}
        for name, by_model in wanted.items():
            there = _told(bill, name)
            for model in sorted(by_model):
                if there[model] < by_model[model]:
                    verdict.add(
                        "bill", f"the bill of period {period}, {model}: {name} is {there[model]}, and "
                        f"{by_model[model]} should be; {later}",
                    )  # fmt: skip
    told = sum(bill.dead for bill in bills.values())
    dead = sum(sums.dead for sums in books.sums.values()) + books.unplaced_dead.total()
    if set(range(1, plan.period + 1)) <= bills.keys() and told < dead:
        verdict.add("bill", f"all bills have {told} dead letters, the topic {dead}; {later}")


def _lapsed(ledgers: Sequence[LedgerRecord], period: int) -> Counter[str]:
    """Queries given up by LLM, as far as lanes still say it: no topic does."""
    total: Counter[str] = Counter()
    for ledger in ledgers:
        if (account := ledger.account_of(period)) is not None:
            total.update(dict(zip(ledger.models, account.lapsed.tolist(), strict=False)))
    return total


class _Summed:
    """What the topics have of a period, over all lanes."""

    def __init__(self, books: Books, period: int) -> None:
        self._parts: list[Sums] = [sums for (_, number), sums in books.sums.items() if number == period]

    def by_model(self, name: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for part in self._parts:
            total.update(getattr(part, name))
        return total

    def charged(self) -> Counter[str]:
        reserved, settled, freed = (self.by_model(name) for name in ("reserved", "settled", "freed"))
        return Counter({model: reserved[model] - freed[model] + settled[model] for model in reserved})

    def count(self, name: str) -> int:
        if name == "arrived":  # a deferred query is counted where it was decided
            return self.by_model("served").total() + self.count("unserved")
        return sum(getattr(part, name) for part in self._parts)


def _told(bill: PeriodSummary, name: str) -> Counter[str]:
    return Counter(dict(zip(bill.models, getattr(bill, name), strict=True)))


def _compare(
    bill: PeriodSummary, name: str, told: Counter[str], summed: Counter[str], exact: bool, verdict: Verdict
) -> None:
    for what in sorted(told.keys() | summed.keys()):
        if told[what] > summed[what] or (exact and told[what] != summed[what]):
            verdict.add(
                "bill", f"the bill of period {bill.period}, {what}: {name} is {told[what]}, "
                f"{summed[what]} by the topics",
            )  # fmt: skip


def _check_dead(bill: PeriodSummary, least: int, unplaced: int, verdict: Verdict) -> None:
    """Which period some dead letters are of, nothing tells."""
    if bill.dead > least + unplaced or (bill.closed and bill.dead < least):
        verdict.add(
            "bill", f"the bill of period {bill.period}: {bill.dead} dead letters, {least} by the topics"
        )  # fmt: skip


def _check_lapsed(bill: PeriodSummary, summed: _Summed, verdict: Verdict) -> None:
    served, settlements = summed.by_model("served"), summed.by_model("settlements")
    for model, lapsed in _told(bill, "lapsed").items():
        still_open = served[model] - settlements[model]
        if lapsed > still_open or (not bill.settling and lapsed != still_open):
            verdict.add(
                "bill", f"the bill of period {bill.period}, {model}: {lapsed} lapsed, {still_open} have no "
                "outcome by the topics",
            )  # fmt: skip


def _check_budgets(bill: PeriodSummary, budgets: Budgets, verdict: Verdict) -> None:
    """The last ones in force; they may change until the period is over."""
    last = budgets.last_of(bill.period)
    if bill.budgets is None or last is None or not bill.closed:
        return
    for model, there in _told(bill, "budgets").items():
        if there != last.get(model, 0):
            verdict.add(
                "bill", f"the bill of period {bill.period}, {model}: its budget is {there}, "
                f"{last.get(model, 0)} by the plans",
            )  # fmt: skip
