"""A lane's account: what was charged, given back and settled adds up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.account import COUNTS, MOST, VECTORS, Account
from routing.decision import DEFERRED, UNSERVED


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_a_batch_is_charged_and_counted_by_what_became_of_each_query():
    charge = np.arange(1, 11, dtype=np.int64).reshape(5, 2)
    account = Account.fresh(3, 2).routed(ints(1, UNSERVED, 0, DEFERRED, 1), charge)
    assert account.charged.tolist() == [5, 2 + 10]
    assert account.reserved.tolist() == [5, 12]
    assert account.served.tolist() == [1, 2]
    assert (account.arrived, account.unserved, account.deferred, account.dead) == (5, 1, 1, 0)
    assert account.available(ints(100, 100)).tolist() == [95, 88]


def test_what_is_held_beyond_the_target_is_given_back_once():
    account = Account.fresh(1, 2).routed(ints(0), ints(30, 0)[None])
    once = account.released_to(ints(100, 50), ints(20, 60))
    assert once.released.tolist() == [50, 0]
    assert once.available(ints(100, 50)).tolist() == [20, 50]
    assert once.released_to(ints(100, 50), ints(20, 60)) is once


def test_a_debt_is_not_given_back():
    account = Account.fresh(1, 1).routed(ints(0), ints(10)[None]).settle(ints(0), ints(10), ints(200))
    assert account.available(ints(100)).tolist() == [-100]
    assert account.released_to(ints(100), ints(0)).released.tolist() == [0]


def test_settling_replaces_reservations_by_what_was_spent():
    account = Account.fresh(1, 2).routed(ints(0, 0, 1), np.full((3, 2), 10, dtype=np.int64))
    account = account.settle(ints(0, 0, 1), ints(10, 10, 10), ints(4, 0, 25))
    assert account.charged.tolist() == [4, 25]
    assert account.settled.tolist() == [4, 25]
    assert account.reserved.tolist() == [20, 10]
    assert account.settlements.tolist() == [2, 1]


def test_a_lapsed_reservation_stays_charged():
    account = Account.fresh(1, 2).routed(ints(0, 1), np.full((2, 2), 10, dtype=np.int64)).lapse(ints(1))
    assert account.charged.tolist() == [10, 10]
    assert account.lapsed.tolist() == [0, 1]


def test_there_is_room_for_llms_that_were_added():
    account = Account.fresh(1, 1).routed(ints(0), ints(7)[None])
    wide = account.widened(3)
    assert wide.charged.tolist() == [7, 0, 0]
    assert all(len(getattr(wide, name)) == 3 for name in VECTORS)
    assert (wide.arrived, wide.period) == (1, 1)
    assert wide.widened(2) is wide


def test_absurd_outcomes_do_not_add_up_until_they_count_as_nothing():
    account = Account.fresh(1, 1)
    for _ in range(50):
        account = account.settle(np.zeros(2000, np.int64), np.zeros(2000, np.int64), np.full(2000, 10**15))
    assert account.charged.tolist() == account.settled.tolist() == [MOST]
    assert account.available(ints(9 * 10**18))[0] < 9 * 10**18


amounts = st.integers(0, 10**12)


@given(st.lists(st.tuples(st.integers(0, 2), amounts, st.none() | amounts), max_size=40))
@settings(deadline=None)
def test_charges_are_open_reservations_and_what_settled_ones_cost(queries):
    account = Account.fresh(1, 3)
    for model, charge, _ in queries:
        account = account.routed(ints(model), np.full((1, 3), charge, dtype=np.int64))
    for model, charge, actual in queries:
        if actual is not None:
            account = account.settle(ints(model), ints(charge), ints(actual))
    for i in range(3):
        mine = [(charge, actual) for model, charge, actual in queries if model == i]
        assert account.charged[i] == sum(charge if actual is None else actual for charge, actual in mine)
        assert account.settled[i] == sum(actual for _, actual in mine if actual is not None)
        assert account.reserved[i] == sum(charge for charge, _ in mine)
        assert (account.served[i], account.settlements[i]) == (
            len(mine),
            sum(actual is not None for _, actual in mine),
        )


def test_every_field_is_named_once():
    account = Account.fresh(1, 1)
    named = {"period", *VECTORS, *COUNTS}
    assert named == set(account.__dataclass_fields__)
    with pytest.raises(AttributeError):
        account.arrived = 3  # type: ignore[misc]
