"""The ledger's record: written and read back whole, also by versions that know other fields."""

from dataclasses import fields, replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.account import COUNTS, VECTORS, Account
from streams.ledger import LedgerRecord, account_from_dict, account_to_dict

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
    closed=st.none() | accounts(),
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
    assert set(LedgerRecord.fresh(1).to_dict()) == {field.name for field in fields(LedgerRecord)}


def test_a_fresh_lane_is_before_the_first_period():
    record = LedgerRecord.decode(LedgerRecord.fresh(7).encode())
    assert (record.lane, record.next, record.account.period, record.closed) == (7, 0, 0, None)


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
