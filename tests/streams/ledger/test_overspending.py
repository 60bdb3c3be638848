"""Overspending: actual costs above a budget are reported apart from reservations."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from streams.audit.findings import Findings
from streams.audit.ledgers import Budgets, check_spending
from streams.audit.totals import LaneTotals, Totals
from streams.commands.bill import table
from streams.ledger.overspending import BOUND, ESTIMATE, Overspending, overspending_of, worst_first
from streams.ledger.period_summary import PeriodSummary
from streams.operations.period_bills import bill_of
from tests.streams.sample_cluster import USD, make_plan

SUMMARY = PeriodSummary(
    period=3,
    closed=True,
    settling=False,
    models=("dear", "dearest", "fine"),
    budgets=[10 * USD, 4 * USD, 5 * USD],
    reserved=[10 * USD, 4 * USD, 5 * USD],
    settled=[23_200_000_000_000, 11 * USD, 5 * USD],
    charged=[23_200_000_000_000, 11 * USD, 5 * USD],
    served=[10, 4, 5],
    settlements=[10, 4, 5],
    lapsed=[0, 0, 0],
    arrived=20,
    unserved=1,
    deferred=0,
    dead=0,
)


def test_bill_with_overspent_llms_names_them_worst_first():
    bill = bill_of(SUMMARY)
    assert [(one["name"], round(one["share"], 3)) for one in bill["overspent"]] == [
        ("dearest", 2.75),
        ("dear", 2.32),
    ]
    lines = table(bill).splitlines()
    assert lines[-2:] == [
        "OVERSPENT: real spending exceeded the budget of dearest: 275 % (11 of 4 USD), because answers cost "
        "2.75 times what was reserved",
        "OVERSPENT: real spending exceeded the budget of dear: 232 % (23.2 of 10 USD), because answers cost "
        "2.32 times what was reserved",
    ]


def test_bill_within_budgets_names_no_llm():
    within = replace(SUMMARY, settled=[USD, USD, USD], charged=[10 * USD, 4 * USD, 5 * USD])
    assert overspending_of(within) == []
    assert "OVERSPENT" not in table(bill_of(within))


def test_overspending_with_unknown_budgets_is_empty():
    assert overspending_of(replace(SUMMARY, budgets=None)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"settled": 9 * USD, "reserved_for_settled": 8 * USD, "open": 2 * USD},
            "real spending and open reservations exceed the budget of m: 110 %",
        ),
        ({"reserved_for_settled": 13 * USD}, "the budget was lowered while the period ran"),
        ({"budget": 0}, "its budget is 0 (12 of 0 USD)"),
        ({"reserved_for_settled": 0}, "answers were not free"),
        ({"reserve": ESTIMATE}, "reserve=estimate does not limit what an answer costs"),
        ({"reserve": BOUND}, "a fleet or an endpoint passed the bound"),
        ({"settled": 10_010_000_000_000}, "100.1 %"),
    ],
)
def test_overspending_text_names_the_cause(changes: dict[str, Any], expected: str):
    overspending = Overspending(3, "m", 10 * USD, 12 * USD, 8 * USD, 0)
    assert expected in replace(overspending, **changes).text()


def test_overspending_of_llm_without_budget_comes_first():
    free, other = Overspending(1, "free", 0, 1, 0, 0), Overspending(1, "other", 1, 9, 1, 0)
    assert [one.model for one in worst_first([other, free])] == ["free", "other"]


def spent(settled: int, *, bounded: bool) -> Findings:
    """Return the findings on 8 queries that reserved the whole budget of 10 USD, by their actual cost."""
    books, budgets, verdict = Totals([], False, Findings()), Budgets(), Findings()
    budgets.record(make_plan())
    cost = {"small": settled}
    books.sums[0, 3] = LaneTotals(
        reserved=Counter(small=10 * USD),
        served=Counter(small=8),
        bounded=Counter(small=8 * bounded),
        settled=Counter(cost),
        settlements=Counter(small=8),
        freed=Counter(small=10 * USD),
        beyond=Counter(small=max(0, settled - 10 * USD)),
    )
    check_spending(books, budgets, verdict)
    return verdict


def test_check_with_low_estimates_reports_note_not_violation():
    verdict = spent(23_200_000_000_000, bounded=False)
    assert verdict.fine
    lines = verdict.text().splitlines()
    assert "reservations never exceeded the budget: holds" in lines
    assert (
        "OVERSPENT in period 3: real spending exceeded the budget of small: 232 % (23.2 of 10 USD), because "
        "answers cost 2.32 times what was reserved: reserve=estimate does not limit what an answer costs"
    ) in lines
    assert lines[-1] != "every invariant holds"
    result = verdict.to_dict()
    assert (result["overspent"], result["real_spending"][0]["share"]) == (0, pytest.approx(2.32))


def test_check_with_bounds_and_overspending_reports_violation():
    verdict = spent(11 * USD, bounded=True)
    assert not verdict.fine
    assert verdict.counts == {"beyond_bound": 1}
    assert "real spending exceeded the budget of small: 110 %" in verdict.text()


@pytest.mark.parametrize("bounded", [False, True])
def test_check_with_spending_within_budget_reports_nothing(bounded: bool):
    verdict = spent(10 * USD, bounded=bounded)
    assert (verdict.fine, verdict.overspending) == (True, [])
    assert verdict.text().splitlines()[-1] == "every invariant holds"
