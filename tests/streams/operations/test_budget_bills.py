"""Bills of budgets: by value and LLM, as data, CSV and tables."""

import csv

import pytest

from streams.commands.bill import table
from streams.ledger.period_summary import CounterTotal, PeriodSummary
from streams.operations.budget_bills import bills_csv, select_budgets
from streams.operations.period_bills import bill_of
from tests.streams.operations.test_period_bills import CLOSED

USD = 10**12


@pytest.fixture
def bill() -> dict:
    counters = [
        CounterTotal("total", None, "usd", 2 * USD, {"a": [10, 2 * USD, USD]}, 5 * USD),
        *[
            CounterTotal("team", f"t{n}", "usd", n * USD, {"a": [n, n * USD, 0], "b": [1, 0, 0]}, 9 * USD)
            for n in range(30)
        ],
        CounterTotal("few", None, "queries", 14, {}, None),
    ]
    return bill_of(PeriodSummary(**{**vars(CLOSED), "budgets": None, "counters": counters}))


def test_one_value_is_selected(bill: dict) -> None:
    (chosen,) = select_budgets([bill], "team", "t7")
    (team,) = chosen["budgets"]
    assert (team["limit"], team["charged"], team["left"]) == (9.0, 7.0, 2.0)
    assert team["llms"][0] == {"name": "a", "served": 7, "reserved": 7.0, "settled": 0.0}
    assert select_budgets([bill], "team", "unknown") == []
    assert len(select_budgets([bill], "team")[0]["budgets"]) == 30


def test_csv_has_a_line_with_the_sums_and_one_for_each_llm(bill: dict) -> None:
    lines = list(csv.DictReader(bills_csv(select_budgets([bill], "team", "t7")).splitlines()))
    assert [(line["llm"], line["served"], line["charged"]) for line in lines] == [
        ("all", "8", "7.0"),
        ("a", "7", ""),
        ("b", "1", ""),
    ]
    assert (lines[0]["closed"], lines[0]["settling"], lines[0]["value"]) == ("true", "true", "t7")


def test_table_shows_the_values_that_drew_most(bill: dict) -> None:
    shown = table(bill)
    assert "team=t29" in shown
    assert "team=t3 " not in shown
    assert "team: 10 more values" in shown
    assert "few" in shown
    assert "unknown" in shown.split("few")[1]
    (chosen,) = select_budgets([bill], "team")
    assert "team=t3 " in table(chosen, of_budget=True)


def test_with_a_budget_per_llm_each_llm_is_a_budget() -> None:
    bill = bill_of(CLOSED)
    assert [(one["budget"], one["limit"], one["charged"]) for one in bill["budgets"]] == [
        ("a", 2.0, 1.25),
        ("vendor/b", 0.5, 0.55),
    ]
    assert "unit" not in table(bill)
