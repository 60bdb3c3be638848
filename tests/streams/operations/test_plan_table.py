"""The plan as text."""

import numpy as np

from routing.budgets.money import to_usd
from routing.policy.price_origin import PriceOrigin
from streams.operations.plan_table import holdings, plan_lines, price_origin
from tests.streams.sample_cluster import USD, ints, make_account, make_ledger, make_ledgers, make_plan


def test_holdings_after_repeated_grants_add_up_to_the_budget():
    """Lane 1 was granted 10 USD three times and gave back most: granted in all is beyond the budget."""
    granted = make_plan().granted.copy()
    granted[1] += ints(20 * USD, 0)
    released = make_account(released=ints(20 * USD, 0), charged=ints(USD, 0))
    ledgers = make_ledgers() | {1: make_ledger(1, released)}
    plan = make_plan(granted=granted)

    charged, unspent, pool = holdings(plan, ledgers)

    assert to_usd(charged).tolist() == [4, 6]
    assert to_usd(unspent).tolist() == [1 + 3, 2 + 8]
    assert (charged + unspent + pool == plan.budgets).all()
    assert plan.granted[:, 0].sum() > plan.budgets[0]


def test_holdings_of_an_overdrawn_llm_have_nothing_free():
    ledgers = {0: make_ledger(0, make_account(charged=ints(12 * USD, 0)))}
    charged, unspent, pool = holdings(make_plan(), ledgers)
    assert (charged[0], pool[0]) == (12 * USD, 0)
    assert unspent[0] == 4 * USD, "of the other lane"


def test_holdings_ignore_ledgers_of_another_period():
    ledgers = {0: make_ledger(0, make_account(2, charged=ints(9 * USD, 0)))}
    charged, unspent, _ = holdings(make_plan(), ledgers)
    assert not charged.any()
    assert to_usd(unspent).tolist() == [8, 16]


def test_plan_lines_have_origin_and_amounts():
    origin = PriceOrigin(observed=8, rows=110, solver="exact", mean_cost=(1234567.0, 2.0))
    plan = make_plan(active=np.array([True, False]), solved_from=origin)
    text = "\n".join(plan_lines(plan, make_ledgers()))
    assert "were learned from 8 sampled queries and 102 rows of the history by the linear program" in text
    assert "1234567" not in text
    assert "{" not in text
    assert "vendor/large (removed)" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("small ")]
    assert [float(amount) for amount in row[2:]] == [10, 4, 4, 2]


def test_price_origin_describes_each_origin():
    def origin_of(learned: bool = True, **origin: object) -> str:
        return price_origin(make_plan(learned=learned, solved_from=PriceOrigin(**origin)))

    assert origin_of(False) == "are not known yet"
    assert origin_of() == "were learned from the history"
    assert origin_of(from_samples=True) == "stay those of the period before"
    assert "from 25 sampled queries by" in origin_of(observed=25, rows=25)
    assert "from 2000 rows, after 4000 sampled queries" in origin_of(observed=4000, rows=2000)
    waiting = make_plan(learned=False, until=20, solved_from=PriceOrigin(warmup="buffer", warmup_seconds=5.0))
    assert "at most 5 s after the first" in "\n".join(plan_lines(waiting, {}))
