"""Ledgers against the sums of the topics, and charges against rights and budgets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from routing.account import Account
from routing.plan import Plan
from streams.checks.logs import Entry
from streams.checks.sums import Books, Sums
from streams.checks.verdict import Verdict
from streams.ledger import LedgerRecord
from streams.ledger_log import LedgerLog


def newest_ledger(lane: int, entries: Sequence[Entry], verdict: Verdict) -> LedgerRecord:
    """The record in force of a lane, and whether those before it led to it."""
    ledger, record = LedgerLog(), LedgerRecord.fresh(lane)
    for entry in entries:
        if not ledger.take(entry.key, entry.value) or (later := ledger.record()) is None:
            continue
        same = later.account.period == record.account.period  # a new one samples again what still waits
        for name in (
            "next",
            "outcomes_next",
            "reservations_from",
            "revision",
            "forgotten",
            *["sampled"] * same,
        ):
            if getattr(later, name) < getattr(record, name):
                verdict.add(
                    "ledger_differs", f"{entry.place}: lane {lane}'s {name} goes back from "
                    f"{getattr(record, name)} to {getattr(later, name)}",
                )  # fmt: skip
        if later.lane != lane:
            verdict.add("ledger_differs", f"{entry.place}: is of lane {later.lane}, not {lane}")
        record = later
    if ledger.loose:
        verdict.add("ledger_differs", f"lane {lane}: an account was written without the lane's record")
    return record


def compare_ledgers(ledgers: Sequence[LedgerRecord], books: Books, verdict: Verdict) -> None:
    """Each account that a ledger holds is the sum of what the topics have."""
    for lane, ledger in enumerate(ledgers):
        for account in ledger.accounts:
            if account.period > 0:
                _compare(lane, ledger.models, account, books.sums[lane, account.period], verdict)
        for number, period in books.sums:
            if number == lane and period > ledger.forgotten and ledger.account_of(period) is None:
                verdict.add("ledger_differs", f"lane {lane}: the account of period {period} is not kept")
        _compare_dead(lane, ledger, books, verdict)


def _compare(lane: int, models: tuple[str, ...], account: Account, sums: Sums, verdict: Verdict) -> None:
    for i, model in enumerate(models[: len(account.charged)]):
        for name, there, summed in (
            ("reserved", account.reserved[i], sums.reserved[model]),
            ("served", account.served[i], sums.served[model]),
            ("settled", account.settled[i], sums.settled[model]),
            ("settlements", account.settlements[i], sums.settlements[model]),
            ("charged", account.charged[i], sums.charged(model)),
        ):
            if there != summed:
                verdict.add(
                    "ledger_differs", f"lane {lane}, period {account.period}, {model}: {name} is {there} in "
                    f"the ledger, {summed} by the topics",
                )  # fmt: skip
        if account.lapsed[i] > account.served[i] - account.settlements[i]:
            verdict.add(
                "ledger_differs", f"lane {lane}, period {account.period}, {model}: more reservations lapsed "
                "than were open",
            )  # fmt: skip
    for name in ("unserved", "deferred"):
        if getattr(account, name) != getattr(sums, name):
            verdict.add(
                "ledger_differs", f"lane {lane}, period {account.period}: {name} is {getattr(account, name)} "
                f"in the ledger, {getattr(sums, name)} by the topics",
            )  # fmt: skip
    decided = int(account.served.sum()) + account.unserved + account.deferred
    if account.arrived != decided:
        verdict.add(
            "ledger_differs", f"lane {lane}, period {account.period}: {account.arrived} arrived, "
            f"{decided} were decided",
        )  # fmt: skip


def _compare_dead(lane: int, ledger: LedgerRecord, books: Books, verdict: Verdict) -> None:
    """Dead letters of all periods that the ledger still holds; which period some are of, nothing tells."""
    accounts = ledger.accounts
    known = {account.period for account in accounts}
    least = sum(books.sums[lane, period].dead for period in known)
    every = sum(sums.dead for (number, _), sums in books.sums.items() if number == lane)
    there = sum(account.dead for account in accounts)
    first = min(known | {period for number, period in books.sums if number == lane})
    most = least + books.unplaced_dead[lane]
    if not least <= there <= most or (first in known and there != every + books.unplaced_dead[lane]):
        verdict.add("ledger_differs", f"lane {lane}: {there} dead letters in the ledger, {most} on the topic")


class Budgets:
    """Each period's budgets by LLM, in picodollars: the most that they ever were, and the last."""

    def __init__(self) -> None:
        self._most: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._last: dict[int, Plan] = {}

    def see(self, plan: Plan) -> None:
        """Budgets may be changed while a period lasts; what was granted by a higher one stays granted."""
        most, last = self._most[plan.period], self._last.get(plan.period)
        for model, budget in zip(plan.models, plan.budgets.tolist(), strict=True):
            most[model] = max(most[model], budget)
        if last is None or last.revision <= plan.revision:
            self._last[plan.period] = plan

    def of(self, period: int) -> Mapping[str, int] | None:
        """Picodollars by LLM at most; None when nothing is known of the period."""
        return self._most.get(period)

    def last_of(self, period: int) -> Mapping[str, int] | None:
        """Picodollars by LLM at the end; None when nothing is known of the period."""
        plan = self._last.get(period)
        return None if plan is None else dict(zip(plan.models, plan.budgets.tolist(), strict=True))


def check_rights(plan: Plan, ledgers: Sequence[LedgerRecord], books: Books, verdict: Verdict) -> None:
    """granted - released - charged is never negative, but for what settled above its reservation."""
    for lane, ledger in enumerate(ledgers[: plan.lanes]):
        account = ledger.account
        if account.period != plan.period or ledger.models != plan.models[: len(ledger.models)]:
            continue
        available = account.widened(len(plan.models)).available(plan.granted[lane])
        beyond = books.sums[lane, plan.period].beyond
        for i, model in enumerate(plan.models):
            if available[i] + beyond[model] < 0:
                verdict.add(
                    "rights", f"lane {lane}, {model}: granted {plan.granted[lane][i]} less released "
                    f"{account.widened(i + 1).released[i]} less charged {account.widened(i + 1).charged[i]} "
                    f"is {available[i]}; settlements explain {beyond[model]}",
                )  # fmt: skip


def check_grants(plan: Plan, ledgers: Sequence[LedgerRecord], budgets: Budgets, verdict: Verdict) -> None:
    """granted - released sums to at most the budget; the plan must be no newer than the ledgers."""
    most = budgets.of(plan.period) or {}
    for i, model in enumerate(plan.models):
        held = 0
        for lane in range(plan.lanes):
            account = ledgers[lane].account
            released = account.widened(i + 1).released[i] if account.period == plan.period else 0
            held += int(plan.granted[lane][i]) - int(released)
            if account.period > plan.period:
                return  # the period has ended
        if held > most.get(model, 0):
            verdict.add(
                "rights", f"{model}: granted less released is {held}; the budget is {most.get(model)}"
            )


def check_spending(books: Books, budgets: Budgets, verdict: Verdict) -> None:
    """Over all lanes no period's charges pass its budgets, but for what settled above its reservation."""
    totals: defaultdict[int, Counter[str]] = defaultdict(Counter)
    beyond: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for (_, period), sums in books.sums.items():
        for model in sums.reserved:
            totals[period][model] += sums.charged(model)
        beyond[period] += sums.beyond
    for period, charged in sorted(totals.items()):
        budget = budgets.of(period)
        verdict.overdrawn_pico += beyond[period].total()
        if budget is None:
            verdict.notes.append(f"period {period}: its budgets are not known any more")
            continue
        for model, amount in charged.items():
            if amount > budget.get(model, 0) + beyond[period][model]:
                verdict.add(
                    "overspent", f"period {period}, {model}: {amount} charged of {budget.get(model, 0)}; "
                    f"settlements explain {beyond[period][model]}",
                )  # fmt: skip
