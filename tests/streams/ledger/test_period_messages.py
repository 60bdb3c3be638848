"""Bills as messages: values of grouped budgets have their own, and only changed ones are written."""

from dataclasses import replace

import numpy as np

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.policy.account import Account
from streams.ledger.period_messages import PeriodAssembler, newest_periods, period_messages
from streams.ledger.period_summary import PeriodSummary, counter_totals, decode_period, summarise
from tests.streams.sample_cluster import MODELS, make_ledger

TEAM = Budget("team", group_by="metadata.team", default=1.0)
TOTAL = Budget("total", limit=10.0)


def account(*teams: str) -> Account:
    """Return an account in which the first LLM served one query of each team, for 5 of 7 picodollars."""
    counters = Counters.of((TOTAL, TEAM), MODELS).with_keys(("team", team) for team in teams)
    fresh = Account.fresh(1, len(MODELS), counters)
    use, charged = fresh.use.copy(), fresh.charged.copy()
    for team in teams:
        column = counters.column_of["team", team]
        use[column, 0], charged[column] = (1, 7, 5), 5
    charged[0] = 5 * len(teams)
    return replace(
        fresh,
        charged=charged,
        use=use,
        served=np.array([len(teams), 0]),
        reserved=np.array([7 * len(teams), 0]),
        settled=np.array([5 * len(teams), 0]),
        settlements=np.array([len(teams), 0]),
    )


def summary(*lanes: tuple[str, ...]) -> PeriodSummary:
    ledgers = {lane: make_ledger(lane, account(*teams)) for lane, teams in enumerate(lanes)}
    return summarise(1, MODELS, None, len(lanes), ledgers)


def test_counters_are_summed_over_lanes_that_list_them_in_another_order():
    totals = {one.name: one for one in counter_totals([account("a", "b"), account("b", "c")], MODELS)}
    assert {name: one.charged for name, one in totals.items() if one.charged} == {
        "total": 20,
        "team=a": 5,
        "team=b": 10,
        "team=c": 5,
    }
    assert totals["team=b"].by_llm == {MODELS[0]: [2, 14, 10]}
    assert totals["total"].by_llm == {MODELS[0]: [4, 28, 20]}
    assert totals["team="].by_llm == {}


def test_a_bill_of_ten_thousand_values_is_many_small_messages():
    bill = summary(tuple(f"team-{number}" for number in range(10_000)))
    messages = list(period_messages(bill, None))
    assert max(len(value) for _, value in messages) < 2_000
    assert newest_periods(messages) == {1: bill}


def test_only_values_that_changed_are_written_again():
    first, second = summary(("a", "b")), summary(("a", "b"), ("b",))
    written = list(period_messages(first, None))
    more = list(period_messages(second, first))
    assert [key for key, _ in more] == [b"1/team=b", b"1"]
    assert newest_periods([*written, *more])[1] == second


def test_a_bill_is_complete_with_the_last_message_of_its_transaction():
    assembler, bill = PeriodAssembler(), summary(("a",))
    *values, (key, rest) = period_messages(bill, None)
    assert [assembler.append(*one) for one in values] == [None] * len(values)
    assert assembler.append(key, rest) == bill
    assert [one.name for one in decode_period(rest).counters] == ["total"]
