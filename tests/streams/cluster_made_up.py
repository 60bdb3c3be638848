"""A plan and ledgers out of nothing, for tests of what is shown of them."""

from dataclasses import replace

import numpy as np

from routing.account import Account
from routing.plan import Plan
from streams.ledger import LedgerRecord

MODELS = ("small", "vendor/large")
USD = 10**12


def ints(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def make_plan(**changes: object) -> Plan:
    """Two LLMs of 10 and 20 USD over two lanes and the overflow lane, all of it granted."""
    plan = Plan(
        period=3, version=7, revision=40, models=MODELS, active=np.array([True, True]),
        budgets=ints(10 * USD, 20 * USD), prices=np.array([0.5, 0.25]), learned=True,
        granted=np.array([[4 * USD, 8 * USD], [4 * USD, 8 * USD], [2 * USD, 4 * USD]]),
        target=np.zeros((3, 2), dtype=np.int64), overflow=True, horizon=100,
        began_at=1000.0, created_at=1050.0,
    )  # fmt: skip
    return replace(plan, **changes)  # type: ignore[arg-type]


def make_account(period: int = 3, **amounts: object) -> Account:
    return replace(Account.fresh(period, 2), **amounts)  # type: ignore[arg-type]


def make_ledger(
    lane: int, account: Account, closed: Account | None = None, **changes: object
) -> LedgerRecord:
    past = {} if closed is None else {closed.period: closed}
    return replace(LedgerRecord(lane, MODELS, account, past), **changes)  # type: ignore[arg-type]


def make_ledgers() -> dict[int, LedgerRecord]:
    """Lane 0 has routed and settled, lane 1 deferred, lane 2 (overflow) took it; an old period is closed."""
    busy = make_account(
        arrived=30, unserved=3, dead=2, charged=ints(3 * USD, 5 * USD), reserved=ints(4 * USD, 5 * USD),
        settled=ints(2 * USD, 0), served=ints(20, 7), settlements=ints(12, 0), released=ints(0, USD),
    )  # fmt: skip
    deferring = make_account(
        arrived=11, deferred=1, charged=ints(USD, 0), reserved=ints(USD, 0), served=ints(10, 0)
    )
    pool = make_account(arrived=1, charged=ints(0, USD), reserved=ints(0, USD), served=ints(0, 1))
    told = {"small": [4, 2.0, 3.0, 0.4]}
    return {
        0: make_ledger(0, busy, next=32, outcomes={"settled": 12, "late": 1}, reported=told),
        1: make_ledger(
            1, deferring, next=11, closed=make_account(2, arrived=99, charged=ints(9 * USD, 0)),
            reported={"small": [6, 5.0, 3.0, 0.6]},
        ),
        2: make_ledger(2, pool, next=2),
    }  # fmt: skip
