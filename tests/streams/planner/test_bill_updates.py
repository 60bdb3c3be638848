"""Bills: due and final summaries, whatever lanes do and whenever the planner restarts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.policy.account import Account
from routing.policy.plan import Plan
from streams.ledger.period_summary import PeriodSummary, summarise
from streams.ledger.record import LedgerRecord
from streams.operations.period_bills import bill_of
from streams.planner.bill_updates import BillUpdates
from tests.streams.sample_cluster import MODELS, USD, ints, make_account, make_ledger, make_plan


def plan_of(period: int, **changes: object) -> Plan:
    return make_plan(period=period, **changes)


def ledgers_of(*accounts: Account, past: dict[int, list[Account]] | None = None) -> dict[int, LedgerRecord]:
    """Return one ledger per lane, with its past accounts."""
    return {
        lane: LedgerRecord(lane, MODELS, account, {a.period: a for a in (past or {}).get(lane, [])})
        for lane, account in enumerate(accounts)
    }


def write(bills: BillUpdates, plan: Plan, ledgers: dict[int, LedgerRecord]) -> dict[int, PeriodSummary]:
    due = bills.pending(plan, ledgers)
    bills.mark_written(due)
    return {summary.period: summary for summary in due}


def test_pending_returns_only_changed_summaries():
    bills, at = BillUpdates(), plan_of(1)
    ledgers = ledgers_of(*[make_account(1)] * 3)
    assert list(write(bills, at, ledgers)) == [1]
    assert write(bills, at, ledgers) == {}
    ledgers[1] = make_ledger(1, make_account(1, arrived=3, unserved=3))
    assert write(bills, at, ledgers)[1].unserved == 3
    ledgers[1] = make_ledger(1, make_account(1, arrived=3, unserved=3), next=9)
    assert write(bills, at, ledgers) == {}


def test_final_through_with_lane_two_periods_behind_waits_for_it():
    """The last transaction of period 1 commits in period 3."""
    served = make_account(1, arrived=4, served=ints(4, 0), charged=ints(8, 0), settlements=ints(4, 0))
    bills = BillUpdates()
    ledgers = ledgers_of(make_account(1), served, make_account(1))
    write(bills, plan_of(1), ledgers)
    for lane in (0, 2):
        ledgers[lane] = ledgers[lane].entering(make_account(2))
    write(bills, plan_of(2), ledgers)
    for lane in (0, 2):
        ledgers[lane] = ledgers[lane].entering(make_account(3))
    write(bills, plan_of(3), ledgers)
    assert bills.final_through(plan_of(3), ledgers) == 0
    more = replace(served, arrived=6, served=ints(6, 0), charged=ints(12, 0), settlements=ints(6, 0))
    ledgers[1] = make_ledger(1, more)
    assert write(bills, plan_of(3), ledgers)[1].charged == [12, 0]
    ledgers[1] = ledgers[1].entering(make_account(3))
    summaries = write(bills, plan_of(3), ledgers)
    assert [(summaries[p].closed, summaries[p].settling) for p in (1, 2)] == [(True, False)] * 2
    assert bills.final_through(plan_of(3), ledgers) == 2


def test_pending_uses_budgets_of_the_period_or_none():
    bills, ledgers = BillUpdates(), ledgers_of(*[make_account(1, arrived=1, unserved=1)] * 3)
    write(bills, plan_of(1), ledgers)
    ledgers = {lane: one.entering(make_account(2)) for lane, one in ledgers.items()}
    none = np.zeros((3, 3), dtype=np.int64)
    other = plan_of(
        2,
        models=(*MODELS, "new"),
        active=np.ones(3, bool),
        prices=np.zeros(3),
        granted=none,
        target=none,
        budgets=np.array([1 * USD, 40 * USD, 5 * USD]),
    )
    summaries = write(bills, other, ledgers)
    assert summaries[1].budgets == [10 * USD, 20 * USD, 0], "an LLM that was added later had none"
    assert summaries[2].budgets == [1 * USD, 40 * USD, 5 * USD]
    assert write(BillUpdates(), other, ledgers)[1].budgets is None, "the topic of periods was lost"


def test_pending_after_llm_removed_keeps_its_spending():
    """An LLM added and removed within a period was never used: the total is the catalogue's."""
    bills, none = BillUpdates(), np.zeros((3, 3), dtype=np.int64)
    at = plan_of(
        1,
        models=(*MODELS, "gone"),
        active=np.array([True, True, False]),
        prices=np.zeros(3),
        granted=none,
        target=none,
        budgets=np.array([10 * USD, 20 * USD, 5 * USD]),
    )
    ledgers = ledgers_of(*[make_account(1, arrived=1, unserved=1)] * 3)
    bill = bill_of(write(bills, at, ledgers)[1])
    assert bill["total"]["budget"] == 30
    assert bill["llms"][2]["budget"] == 0
    # its spending stays on the bill, and the rest of its budget is removed
    spent = Account.fresh(1, 3)
    ledgers[0] = LedgerRecord(0, at.models, replace(spent, charged=ints(0, 0, 2 * USD), arrived=1), {})
    bill = bill_of(write(bills, at, ledgers)[1])
    assert (bill["llms"][2]["budget"], bill["llms"][2]["left"]) == (2, 0)
    assert bill["total"]["left"] == 30
    # its earlier budget still bounds it
    ledgers[0] = LedgerRecord(0, at.models, replace(spent, charged=ints(0, 0, 7 * USD), arrived=2), {})
    assert bill_of(write(bills, at, ledgers)[1])["llms"][2]["left"] == -2


def test_pending_after_accounts_forgotten_returns_nothing():
    """One lane keeps its account longer than the others, and the sum is incomplete."""
    bills = BillUpdates()
    rest = make_account(1, arrived=1, unserved=1)
    ledgers = ledgers_of(*[make_account(3)] * 3, past={1: [rest]})
    assert 1 not in write(bills, plan_of(3, billed=1), ledgers)
    # a lane of an older release has dropped an account by itself
    ledgers[0] = replace(ledgers[0], forgotten=1)
    assert 1 not in write(BillUpdates(), plan_of(3), ledgers)


def test_final_through_with_unused_period_passes_it():
    ledgers = ledgers_of(*[make_account(4)] * 3)
    bills = BillUpdates()
    assert list(write(bills, plan_of(4), ledgers)) == [4]
    assert bills.final_through(plan_of(4), ledgers) == 3


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
    """Three lanes and a planner, and a record of all accounts."""

    def __init__(self) -> None:
        self.plan, self.bills = plan_of(1), BillUpdates()
        self.topic: dict[int, PeriodSummary] = {}
        self.ledgers = ledgers_of(*[Account.fresh(0, 2)] * 3)
        self.truth: dict[int, dict[int, Account]] = {lane: {} for lane in range(3)}

    def account(self, lane: int, account: Account) -> None:
        self.ledgers[lane] = self.ledgers[lane].with_account(account)
        self.truth[lane][account.period] = account

    def look(self) -> None:
        due = self.bills.pending(self.plan, self.ledgers)
        self.bills.mark_written(due)
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
            # a lane forgets no further than its oldest open reservation
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
            billed = self.bills.final_through(self.plan, self.ledgers)
            self.plan = replace(self.plan, period=self.plan.period + 1, billed=billed)
        elif what == "die":
            self.bills = BillUpdates(one for one in self.topic.values() if one.period > self.plan.billed)


@given(moves)
@settings(max_examples=300)
def test_bills_after_random_steps_equal_all_charges_and_are_closed(steps):
    cluster = Cluster()
    for step in steps:
        cluster.do(*step)
    for lane in range(3):  # all come to a period of their own, and nothing stays open
        cluster.do("enter", lane, 0)
    cluster.do("roll", 0, 0)
    for _ in range(200):
        for lane in range(3):
            cluster.do("settle", lane, 0)
    for lane in range(3):
        cluster.do("enter", lane, 0)
    cluster.look()
    records = {
        lane: LedgerRecord(lane, MODELS, cluster.ledgers[lane].account, accounts)
        for lane, accounts in cluster.truth.items()
    }
    for period in range(1, cluster.plan.period):
        bill = cluster.topic[period]
        assert bill == summarise(period, MODELS, make_plan().budgets.tolist(), 3, records)
        assert (bill.closed, bill.settling) == (True, False)
    assert cluster.bills.final_through(cluster.plan, cluster.ledgers) == cluster.plan.period - 1


@pytest.mark.parametrize("lane", [0, 1])
def test_final_through_with_fresh_lane_returns_zero(lane):
    ledgers = ledgers_of(*[make_account(2)] * 3)
    del ledgers[lane]
    bills = BillUpdates()
    write(bills, plan_of(1), {})
    assert not write(bills, plan_of(2), ledgers)[2].closed
    assert bills.final_through(plan_of(2), ledgers) == 0
