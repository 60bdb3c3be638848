"""Check of each counter of shared and grouped budgets: in ledgers and bills, against the topics' sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from routing.budgets.counters import CounterKey
from routing.policy.account import Account
from streams.audit.findings import Findings
from streams.audit.totals import LaneTotals, counter_name
from streams.ledger.period_summary import CounterTotal, PeriodSummary

USES = ("served", "reserved", "settled")
"""Columns of `Account.use` and of `CounterTotal.by_llm`."""


def compare_counters(
    lane: int, models: Sequence[str], account: Account, sums: LaneTotals, findings: Findings
) -> None:
    """Check that the counters of an account, and their uses by LLM, equal the sums of the topics."""
    where = f"lane {lane}, period {account.period}, budget"
    recorded: Counter[CounterKey] = Counter()
    uses: Counter[tuple[CounterKey, str, int]] = Counter()
    if account.counters is not None:
        recorded.update(dict(zip(account.counters.keys, account.charged.tolist(), strict=True)))
        for column in account.counters.grouped.nonzero()[0].tolist():
            for i, amounts in enumerate(account.use[column].tolist()):
                for kind, amount in enumerate(amounts):
                    uses[account.counters.keys[column], models[i], kind] = amount
    for key in recorded.keys() | sums.drawn.keys():
        if recorded[key] != sums.drawn[key]:
            findings.add(
                "ledger_differs",
                f"{where} {counter_name(key)}: charged is {recorded[key]} in the ledger, "
                f"{sums.drawn[key]} by the topics",
            )
    for use in uses.keys() | {one for one in sums.use if one[0][1] is not None}:
        if uses[use] != sums.use[use]:
            key, model, kind = use
            findings.add(
                "ledger_differs",
                f"{where} {counter_name(key)}, {model}: {USES[kind]} is {uses[use]} in the ledger, "
                f"{sums.use[use]} by the topics",
            )


def check_counter_bill(
    bill: PeriodSummary,
    parts: Sequence[LaneTotals],
    limits: Mapping[str, int] | None,
    removed: Sequence[str],
    findings: Findings,
) -> None:
    """Check the counters of a bill: draws and uses by the topics, limits by the plans.

    Parameters
    ----------
    bill : PeriodSummary
    parts : sequence of LaneTotals
        Of all lanes in the bill's period.
    limits : mapping of str to int or None
        Limits in force last, by name of the counter. None if no plan of the period is known.
    removed : sequence of str
        Counters whose budget was removed before the period ended. Their limit is what they drew.
    findings : Findings
    """
    drawn: Counter[CounterKey] = Counter()
    use: Counter[tuple[CounterKey, str, int]] = Counter()
    for part in parts:
        drawn.update(part.drawn)
        use.update(part.use)
    billed = {(one.budget, one.value): one for one in bill.counters}
    for key in billed.keys() | (drawn.keys() if bill.closed else set()):
        total = billed.get(key) or CounterTotal(*key, "", 0, {})
        where = f"the bill of period {bill.period}, budget {total.name}"
        # outcomes raise and lower a charge, so only a final one can be compared
        if not bill.settling and total.charged != drawn[key]:
            findings.add("bill", f"{where}: charged is {total.charged}, {drawn[key]} by the topics")
        if key[1] is not None:
            _check_uses(bill, where, total, use, findings)
        if bill.closed and limits is not None and total.limit is not None:
            last = limits.get(total.name, 0)
            is_final_limit = total.name in removed and min(last, total.charged) <= total.limit <= last
            if total.limit != last and not is_final_limit:
                findings.add("bill", f"{where}: its limit is {total.limit}, {last} by the plans")


def _check_uses(
    bill: PeriodSummary,
    where: str,
    total: CounterTotal,
    use: Mapping[tuple[CounterKey, str, int], int],
    findings: Findings,
) -> None:
    key = total.budget, total.value
    for model in bill.models:
        billed = total.by_llm.get(model, [0] * len(USES))
        for kind, name in enumerate(USES):
            summed = use.get((key, model, kind), 0)
            exact = not bill.settling or (bill.closed and name != "settled")
            if billed[kind] > summed or (exact and billed[kind] != summed):
                findings.add("bill", f"{where}, {model}: {name} is {billed[kind]}, {summed} by the topics")
