"""A plan and ledgers out of nothing, for tests of what is shown of them."""

from dataclasses import replace

import numpy as np

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.policy.account import Account
from routing.policy.plan import Plan
from streams.ledger.record import LedgerRecord
from streams.ledger.reported_quality import ReportedQuality
from streams.telemetry.budget_summary import BudgetFigures

MODELS = ("small", "vendor/large")
USD = 10**12


def ints(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def make_plan(**changes: object) -> Plan:
    """Two LLMs of 10 and 20 USD over two lanes and the overflow lane, all of it granted."""
    plan = Plan(
        period=3,
        version=7,
        revision=40,
        models=MODELS,
        active=np.array([True, True]),
        budgets=ints(10 * USD, 20 * USD),
        prices=np.array([0.5, 0.25]),
        learned=True,
        granted=np.array([[4 * USD, 8 * USD], [4 * USD, 8 * USD], [2 * USD, 4 * USD]]),
        target=np.zeros((3, 2), dtype=np.int64),
        overflow=True,
        horizon=100,
        began_at=1000.0,
        created_at=1050.0,
    )
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
        arrived=30,
        unserved=3,
        dead=2,
        charged=ints(3 * USD, 5 * USD),
        reserved=ints(4 * USD, 5 * USD),
        settled=ints(2 * USD, 0),
        served=ints(20, 7),
        settlements=ints(12, 0),
        released=ints(0, USD),
    )
    deferring = make_account(
        arrived=11, deferred=1, charged=ints(USD, 0), reserved=ints(USD, 0), served=ints(10, 0)
    )
    pool = make_account(arrived=1, charged=ints(0, USD), reserved=ints(0, USD), served=ints(0, 1))
    reported_small = {"small": ReportedQuality(4, 2.0, 3.0, 0.4)}
    return {
        0: make_ledger(0, busy, next=32, outcomes={"settled": 12, "late": 1}, reported=reported_small),
        1: make_ledger(
            1,
            deferring,
            next=11,
            closed=make_account(2, arrived=99, charged=ints(9 * USD, 0)),
            reported={"small": ReportedQuality(6, 5.0, 3.0, 0.6)},
        ),
        2: make_ledger(2, pool, next=2),
    }


SHARED = (
    Budget("total", limit=60.0),
    Budget("team", group_by="metadata.team", limits={"search": 10.0, "ads": 5.0}, default=1.0),
    Budget("few", "queries", limit=100, models=("small",)),
    Budget("pace", "queries", limit=600, per="minute"),
)
TEAMS = ("search", "ads", *(f"team-{number}" for number in range(40)))


def make_shared_plan(**changes: object) -> Plan:
    """Shared, grouped and rate budgets; 40 teams are not in the catalogue."""
    counters = Counters.of(SHARED, MODELS).with_keys(("team", team) for team in TEAMS)
    size = len(counters)
    plan = make_plan(
        budgets=counters.limits(),
        prices=np.full(size, 0.5),
        granted=np.zeros((3, size), dtype=np.int64),
        target=np.zeros((3, size), dtype=np.int64),
        counters=counters,
        open=np.ones(size, dtype=bool),
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def make_shared_ledgers() -> dict[int, LedgerRecord]:
    """Each team had a query on the first LLM, team search ten: 0.5 USD settled and 0.3 reserved for each."""
    counters = make_shared_plan().counters
    account = Account.fresh(3, 2, counters)
    charged, use = account.charged.copy(), account.use.copy()
    counts = {team: 10 if team == "search" else 1 for team in TEAMS}
    for team, count in counts.items():
        column = counters.column_of["team", team]
        charged[column], use[column, 0] = count * 8 * USD // 10, (count, count * USD, count * USD // 2)
    queries = sum(counts.values())
    charged[:1], charged[counters.column_of["few", None]] = queries * 8 * USD // 10, queries
    charged[counters.column_of["pace", None]] = queries
    account = replace(
        account,
        arrived=queries,
        charged=charged,
        use=use,
        served=ints(queries, 0),
        reserved=ints(queries * USD, 0),
        settled=ints(queries * USD // 2, 0),
        settlements=ints(queries // 2, 0),
        freed=ints(queries * USD * 7 // 10, 0),
    )
    return {0: make_ledger(0, account)}


def make_figures() -> BudgetFigures:
    plan, ledgers = make_shared_plan(), make_shared_ledgers()
    return BudgetFigures(plan, [ledger.account for ledger in ledgers.values()])
