"""Account of a lane: charges, releases and settlements add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.policy.account import COUNTS, MAX_CHARGE_PICO, VECTORS, Account
from routing.policy.decision import DEFERRED, UNSERVED


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_routed_charges_and_counts_each_query():
    charge = np.arange(1, 11, dtype=np.int64).reshape(5, 2)
    account = Account.fresh(3, 2).with_charges(ints(1, UNSERVED, 0, DEFERRED, 1), charge)
    assert account.charged.tolist() == [5, 2 + 10]
    assert account.reserved.tolist() == [5, 12]
    assert account.served.tolist() == [1, 2]
    assert (account.arrived, account.unserved, account.deferred, account.dead) == (5, 1, 1, 0)
    assert account.available(ints(100, 100)).tolist() == [95, 88]


def test_released_to_gives_back_the_excess_once():
    account = Account.fresh(1, 2).with_charges(ints(0), ints(30, 0)[None])
    once = account.released_to(ints(100, 50), ints(20, 60))
    assert once.released.tolist() == [50, 0]
    assert once.available(ints(100, 50)).tolist() == [20, 50]
    assert once.released_to(ints(100, 50), ints(20, 60)) is once


def test_released_to_with_debt_releases_nothing():
    account = Account.fresh(1, 1).with_charges(ints(0), ints(10)[None]).settle(ints(0), ints(10), ints(200))
    assert account.available(ints(100)).tolist() == [-100]
    assert account.released_to(ints(100), ints(0)).released.tolist() == [0]


def test_settle_replaces_reservations_by_actual_costs():
    account = Account.fresh(1, 2).with_charges(ints(0, 0, 1), np.full((3, 2), 10, dtype=np.int64))
    account = account.settle(ints(0, 0, 1), ints(10, 10, 10), ints(4, 0, 25))
    assert account.charged.tolist() == [4, 25]
    assert account.settled.tolist() == [4, 25]
    assert account.reserved.tolist() == [20, 10]
    assert account.settlements.tolist() == [2, 1]


def test_lapse_keeps_the_charge():
    account = Account.fresh(1, 2).with_charges(ints(0, 1), np.full((2, 2), 10, dtype=np.int64)).lapse(ints(1))
    assert account.charged.tolist() == [10, 10]
    assert account.lapsed.tolist() == [0, 1]


def test_widened_adds_zeros_for_new_llms():
    account = Account.fresh(1, 1).with_charges(ints(0), ints(7)[None])
    wide = account.widened(3)
    assert wide.charged.tolist() == [7, 0, 0]
    assert all(len(getattr(wide, name)) == 3 for name in VECTORS)
    assert (wide.arrived, wide.period) == (1, 1)
    assert wide.widened(2) is wide


def test_settle_absurd_outcomes_stop_at_the_maximum():
    account = Account.fresh(1, 1)
    for _ in range(50):
        account = account.settle(np.zeros(2000, np.int64), np.zeros(2000, np.int64), np.full(2000, 10**15))
    assert account.charged.tolist() == account.settled.tolist() == [MAX_CHARGE_PICO]
    assert account.available(ints(9 * 10**18))[0] < 9 * 10**18


amounts = st.integers(0, 10**12)


@given(st.lists(st.tuples(st.integers(0, 2), amounts, st.none() | amounts), max_size=40))
def test_charged_equals_open_reservations_and_settled_costs(queries):
    account = Account.fresh(1, 3)
    for model, charge, _ in queries:
        account = account.with_charges(ints(model), np.full((1, 3), charge, dtype=np.int64))
    for model, charge, actual in queries:
        if actual is not None:
            account = account.settle(ints(model), ints(charge), ints(actual))
    for i in range(3):
        of_model = [(charge, actual) for model, charge, actual in queries if model == i]
        assert account.charged[i] == sum(charge if actual is None else actual for charge, actual in of_model)
        assert account.settled[i] == sum(actual for _, actual in of_model if actual is not None)
        assert account.reserved[i] == sum(charge for charge, _ in of_model)
        assert (account.served[i], account.settlements[i]) == (
            len(of_model),
            sum(actual is not None for _, actual in of_model),
        )


def test_account_fields_are_vectors_or_counts():
    account = Account.fresh(1, 1)
    named = {"period", "counters", "seen", "use", *VECTORS, *COUNTS}
    assert named == set(account.__dataclass_fields__)
    with pytest.raises(AttributeError):
        account.arrived = 3  # type: ignore[misc]
