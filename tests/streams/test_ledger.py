"""The ledger's record: written and read back whole, also by versions that know other fields."""

from dataclasses import fields, replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.account import COUNTS, VECTORS, Account
from streams.ledger import LedgerRecord, account_from_dict, account_key, account_to_dict, lane_key
from streams.ledger_log import LedgerLog

amounts = st.integers(-(2**63), 2**63 - 1)
names = st.lists(st.text(min_size=1, max_size=20), max_size=4)


@st.composite
def accounts(draw) -> Account:
    models = draw(st.integers(0, 4))
    vectors = {
        name: np.array(draw(st.lists(amounts, min_size=models, max_size=models)), dtype=np.int64)
        for name in VECTORS
    }
    counts = {name: draw(st.integers(0, 2**53)) for name in COUNTS}
    return Account(period=draw(st.integers(0, 2**40)), **vectors, **counts)


records = st.builds(
    LedgerRecord,
    lane=st.integers(0, 1000),
    models=names.map(tuple),
    account=accounts(),
    past=st.lists(accounts(), max_size=3).map(lambda past: {one.period: one for one in past}),
    forgotten=st.integers(0, 2**40),
    next=st.integers(0, 2**63 - 1),
    sampled=st.integers(0, 2**63 - 1),
    outcomes_next=st.integers(0, 2**63 - 1),
    reservations_from=st.integers(0, 2**63 - 1),
    version=st.integers(0, 2**40),
    revision=st.integers(0, 2**40),
    outcomes=st.dictionaries(st.sampled_from(["settled", "late"]), st.integers(0, 2**40)),
    reported=st.dictionaries(
        st.text(max_size=9),
        st.tuples(st.integers(0, 99), *[st.floats(0, 99)] * 3).map(list),
        max_size=3,
    ),
    written_at=st.floats(0, 4e9),
)


def as_plain(record: LedgerRecord) -> dict:
    return orjson.loads(orjson.dumps(record.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY))


@given(records)
@settings(max_examples=60, deadline=None)
def test_a_record_is_read_back_whole(record):
    read = LedgerRecord.decode(record.encode())
    assert as_plain(read) == as_plain(record)
    for name in VECTORS:
        assert getattr(read.account, name).dtype == np.int64
    assert read.models == record.models


def test_every_field_is_written():
    """But for past accounts, which have messages of their own."""
    names = {field.name for field in fields(LedgerRecord)}
    assert set(LedgerRecord.fresh(1).to_dict()) == names - {"past"}


def test_a_fresh_lane_is_before_the_first_period():
    record = LedgerRecord.decode(LedgerRecord.fresh(7).encode())
    assert (record.lane, record.next, record.account.period, record.past) == (7, 0, 0, {})


def test_a_record_of_a_version_that_had_fewer_fields_is_read():
    plain = as_plain(replace(LedgerRecord.fresh(2), next=9))
    for name in ("reported", "outcomes", "reservations_from", "sampled", "written_at"):
        del plain[name]
    read = LedgerRecord.decode(orjson.dumps(plain))
    assert (read.next, read.reported, read.sampled) == (9, {}, 0)


def test_a_record_of_a_version_that_had_more_fields_is_read():
    """A worker of the version before goes on after an upgrade was taken back."""
    plain = as_plain(replace(LedgerRecord.fresh(2), next=9))
    read = LedgerRecord.decode(orjson.dumps({**plain, "invented_later": [1, 2]}))
    assert read.next == 9


def test_an_account_that_is_not_whole_is_an_error():
    whole = account_to_dict(Account.fresh(1, 2))
    assert account_from_dict(whole).period == 1
    with pytest.raises(KeyError, match="charged"):
        account_from_dict({name: value for name, value in whole.items() if name != "charged"})


# --- accounts of periods before -----------------------------------------------------------------------------


def in_period(period: int, *before: int, **changes) -> LedgerRecord:
    past = {number: Account.fresh(number, 2) for number in before}
    return replace(LedgerRecord.fresh(4), account=Account.fresh(period, 2), past=past, **changes)


def test_a_period_that_ends_leaves_its_account_and_one_that_is_forgotten_does_not():
    record = in_period(3, 2).entering(Account.fresh(5, 2))
    assert [account.period for account in record.accounts] == [5, 2, 3]
    assert record.closed is record.account_of(3)
    assert record.account_of(4) is None
    forgotten = record.forgetting(2)
    assert (list(forgotten.past), forgotten.forgotten) == ([3], 2)
    assert forgotten.forgetting(1) is forgotten
    assert LedgerRecord.fresh(1).entering(Account.fresh(1, 2)).past == {}, "nothing is before the first"


def test_only_the_record_that_follows_makes_an_account_true():
    log, record = LedgerLog(), in_period(3, 1, 2)
    assert log.record() is None
    for period in (1, 2):
        assert not log.take(account_key(4, period), record.encode_account(period))
    assert log.record() is None
    assert log.loose
    assert log.take(lane_key(4), record.encode())
    first = log.record()
    assert list(first.past) == [1, 2]
    assert log.record() is first
    # the next transaction forgets one account and changes none
    log.take(account_key(4, 1), None)
    assert list(log.record().past) == [1, 2], "not committed as far as it is read"
    log.take(lane_key(4), record.forgetting(1).encode())
    assert (list(log.record().past), log.record().forgotten) == ([2], 1)
    assert log.record().account_of(2) is first.account_of(2), "what did not change is the same object"
    assert list(log.accounts()) == [2]


def test_the_single_account_that_an_older_version_kept_is_read_and_no_other():
    plain = as_plain(in_period(5, next=9))
    del plain["forgotten"]
    log = LedgerLog()
    log.take(account_key(4, 3), in_period(5, 3).encode_account(3))
    log.take(lane_key(4), orjson.dumps({**plain, "closed": as_plain(in_period(4))["account"]}))
    record = log.record()
    assert (list(record.past), record.forgotten, record.next) == ([4], 3, 9)
    assert list(log.accounts()) == [3], "which the next transaction takes away"
    log.take(lane_key(4), orjson.dumps({**plain, "closed": None}))
    assert (log.record().past, log.record().forgotten) == ({}, 4)


def test_an_older_version_takes_the_last_message_for_the_record():
    """It reads accounts as records of a lane at its beginning, and goes by what comes after."""
    read = LedgerRecord.decode(in_period(5, 3).encode_account(3))
    assert (read.lane, read.account.period, read.revision, read.next) == (4, 3, 0, 0)


def test_the_record_of_a_transaction_does_not_grow_with_the_periods_before():
    assert len(in_period(400, *range(1, 400)).encode()) == len(in_period(400).encode())
