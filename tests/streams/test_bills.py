"""Which bills are due and which are final, whatever lanes do and whenever the planner dies."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.account import Account
from routing.plan import Plan
from streams.bills import Bills
from streams.ledger import LedgerRecord
from streams.periods import PeriodSummary, summarise
from tests.streams.cluster_made_up import MODELS, USD, ints, make_account, make_ledger, make_plan


def plan_of(period: int, **changes: object) -> Plan:
    return make_plan(period=period, **changes)


def ledgers_of(*accounts: Account, past: dict[int, list[Account]] | None = None) -> dict[int, LedgerRecord]:
    """One a lane, each with its past accounts."""
    return {
        lane: LedgerRecord(lane, MODELS, account, {a.period: a for a in (past or {}).get(lane, [])})
        for lane, account in enumerate(accounts)
    }


def write(bills: Bills, plan: Plan, ledgers: dict[int, LedgerRecord]) -> dict[int, PeriodSummary]:
    due = bills.due(plan, ledgers)
    bills.wrote(due)
    return {summary.period: summary for summary in due}


def test_only_what_changed_is_due():
    bills, at = Bills(), plan_of(1)
    ledgers = ledgers_of(*[make_account(1)] * 3)
    assert list(write(bills, at, ledgers)) == [1]
    assert write(bills, at, ledgers) == {}
    ledgers[1] = make_ledger(1, make_account(1, arrived=3, unserved=3))
    assert write(bills, at, ledgers)[1].unserved == 3
    ledgers[1] = make_ledger(1, make_account(1, arrived=3, unserved=3), next=9)
    assert write(bills, at, ledgers) == {}


def test_a_lane_that_is_two_periods_behind_is_waited_for_and_billed():
    """The last transaction of period 1 commits when period 3 has begun."""
    served = make_account(1, arrived=4, served=ints(4, 0), charged=ints(8, 0), settlements=ints(4, 0))
    bills = Bills()
    ledgers = ledgers_of(make_account(1), served, make_account(1))
    write(bills, plan_of(1), ledgers)
    for lane in (0, 2):
        ledgers[lane] = ledgers[lane].entering(make_account(2))
    write(bills, plan_of(2), ledgers)
    for lane in (0, 2):
        ledgers[lane] = ledgers[lane].entering(make_account(3))
    write(bills, plan_of(3), ledgers)
    assert bills.final(plan_of(3), ledgers) == 0
    more = replace(served, arrived=6, served=ints(6, 0), charged=ints(12, 0), settlements=ints(6, 0))
    ledgers[1] = make_ledger(1, more)
    assert write(bills, plan_of(3), ledgers)[1].charged == [12, 0]
    ledgers[1] = ledgers[1].entering(make_account(3))
    told = write(bills, plan_of(3), ledgers)
    assert [(told[p].closed, told[p].settling) for p in (1, 2)] == [(True, False)] * 2
    assert bills.final(plan_of(3), ledgers) == 2


def test_budgets_are_those_of_the_period_or_not_known():
    bills, ledgers = Bills(), ledgers_of(*[make_account(1, arrived=1, unserved=1)] * 3)
    write(bills, plan_of(1), ledgers)
    ledgers = {lane: one.entering(make_account(2)) for lane, one in ledgers.items()}
    none = np.zeros((3, 3), dtype=np.int64)
    other = plan_of(
        2, models=(*MODELS, "new"), active=np.ones(3, bool), prices=np.zeros(3), granted=none, target=none,
        budgets=np.array([1 * USD, 40 * USD, 5 * USD]),
    )  # fmt: skip
    told = write(bills, other, ledgers)
    assert told[1].budgets == [10 * USD, 20 * USD, 0], "an LLM that was added later had none"
    assert told[2].budgets == [1 * USD, 40 * USD, 5 * USD]
    assert write(Bills(), other, ledgers)[1].budgets is None, "the topic of periods was lost"


def test_what_lanes_forgot_is_not_summed_again():
    """One lane keeps its account a moment longer than the others; the sum is no bill."""
    bills = Bills()
    rest = make_account(1, arrived=1, unserved=1)
    ledgers = ledgers_of(*[make_account(3)] * 3, past={1: [rest]})
    assert 1 not in write(bills, plan_of(3, billed=1), ledgers)
    # an older version's lane has forgotten of itself
    ledgers[0] = replace(ledgers[0], forgotten=1)
    assert 1 not in write(Bills(), plan_of(3), ledgers)


def test_a_period_that_nobody_had_a_part_in_keeps_no_other_open():
    ledgers = ledgers_of(*[make_account(4)] * 3)
    bills = Bills()
    assert list(write(bills, plan_of(4), ledgers)) == [4]
    assert bills.final(plan_of(4), ledgers) == 3


# --- against the truth --------------------------------------------------------------------------------------

moves = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), st.integers(0, 2), st.integers(1, 3)),
        st.tuples(st.just("settle"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("lapse"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("enter"), st.integers(0, 2), st.just(0)),
        st.tuples(st.sampled_from(["roll", "look", "die"]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Cluster:
    """Three lanes and a planner; beside them every account that ever was."""

    def __init__(self) -> None:
        self.plan, self.bills = plan_of(1), Bills()
        self.topic: dict[int, PeriodSummary] = {}
        self.ledgers = ledgers_of(*[Account.fresh(0, 2)] * 3)
        self.truth: dict[int, dict[int, Account]] = {lane: {} for lane in range(3)}

    def account(self, lane: int, account: Account) -> None:
        self.ledgers[lane] = self.ledgers[lane].with_account(account)
        self.truth[lane][account.period] = account

    def look(self) -> None:
        due = self.bills.due(self.plan, self.ledgers)
        self.bills.wrote(due)
        self.topic |= {summary.period: summary for summary in due}

    def do(self, what: str, lane: int, number: int) -> None:
        ledger = self.ledgers[lane]
        if what == "serve" and ledger.account.period > 0:
            one = ledger.account
            self.account(
                lane, replace(one, arrived=one.arrived + number, served=one.served + ints(number, 0))
            )
        elif what in ("settle", "lapse"):
            accounts = [a for a in ledger.accounts if (a.served > a.settlements + a.lapsed).any()]
            if accounts:
                one = accounts[number % len(accounts)]
                name = "settlements" if what == "settle" else "lapsed"
                self.account(lane, replace(one, **{name: getattr(one, name) + ints(1, 0)}))
        elif what == "enter" and self.plan.period > ledger.account.period:
            # as a lane forgets: no further than its oldest open reservation
            oldest = min(
                [a.period for a in ledger.accounts if (a.served > a.settlements + a.lapsed).any()],
                default=self.plan.period,
            )
            entered = ledger.entering(Account.fresh(self.plan.period, 2))
            self.ledgers[lane] = entered.forgetting(min(self.plan.billed, oldest - 1))
            self.truth[lane][self.plan.period] = entered.account
        elif what == "look":
            self.look()
        elif what == "roll":
            self.look()
            billed = self.bills.final(self.plan, self.ledgers)
            self.plan = replace(self.plan, period=self.plan.period + 1, billed=billed)
        elif what == "die":
            self.bills = Bills(one for one in self.topic.values() if one.period > self.plan.billed)


@given(moves)
@settings(max_examples=300, deadline=None)
def test_bills_are_the_sum_of_all_that_ever_was_and_are_closed_in_the_end(steps):
    made = Cluster()
    for step in steps:
        made.do(*step)
    for lane in range(3):  # all come to a period of their own, and nothing stays open
        made.do("enter", lane, 0)
    made.do("roll", 0, 0)
    for _ in range(200):
        for lane in range(3):
            made.do("settle", lane, 0)
    for lane in range(3):
        made.do("enter", lane, 0)
    made.look()
    whole = {
        lane: LedgerRecord(lane, MODELS, made.ledgers[lane].account, accounts)
        for lane, accounts in made.truth.items()
    }
    for period in range(1, made.plan.period):
        bill = made.topic[period]
        assert bill == summarise(period, MODELS, make_plan().budgets.tolist(), 3, whole)
        assert (bill.closed, bill.settling) == (True, False)
    assert made.bills.final(made.plan, made.ledgers) == made.plan.period - 1


@pytest.mark.parametrize("lane", [0, 1])
def test_a_fresh_lane_holds_every_period_open(lane):
    ledgers = ledgers_of(*[make_account(2)] * 3)
    del ledgers[lane]
    bills = Bills()
    write(bills, plan_of(1), {})
    assert not write(bills, plan_of(2), ledgers)[2].closed
    assert bills.final(plan_of(2), ledgers) == 0
