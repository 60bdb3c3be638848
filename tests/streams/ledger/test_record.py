"""The ledger's record: encoding and decoding, also by releases with other fields."""

from dataclasses import fields, replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.policy.account import COUNTS, VECTORS, Account
from streams.ledger.account_format import account_from_dict, account_key, account_to_dict, lane_key
from streams.ledger.record import LedgerRecord
from streams.ledger.record_log import LedgerLog
from streams.ledger.reported_quality import ReportedQuality

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
        st.builds(ReportedQuality, st.integers(0, 99), *[st.floats(0, 99)] * 3),
        max_size=3,
    ),
    written_at=st.floats(0, 4e9),
)


def as_plain(record: LedgerRecord) -> dict:
    return orjson.loads(orjson.dumps(record.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY))


@given(records)
@settings(max_examples=60)
def test_ledger_record_round_trips(record):
    read = LedgerRecord.decode(record.encode())
    assert as_plain(read) == as_plain(record)
    for name in VECTORS:
        assert getattr(read.account, name).dtype == np.int64
    assert read.models == record.models


def test_to_dict_contains_every_field():
    """Past accounts are an exception: they have messages of their own."""
    names = {field.name for field in fields(LedgerRecord)}
    assert set(LedgerRecord.fresh(1).to_dict()) == names - {"past"} | {"format"}


def test_fresh_record_is_in_period_zero():
    record = LedgerRecord.decode(LedgerRecord.fresh(7).encode())
    assert (record.lane, record.next, record.account.period, record.past) == (7, 0, 0, {})


def test_decode_record_with_missing_fields_uses_defaults():
    plain = as_plain(replace(LedgerRecord.fresh(2), next=9))
    for name in ("reported", "outcomes", "reservations_from", "sampled", "written_at"):
        del plain[name]
    read = LedgerRecord.decode(orjson.dumps(plain))
    assert (read.next, read.reported, read.sampled) == (9, {}, 0)


def test_decode_record_with_unknown_fields_ignores_them():
    plain = as_plain(replace(LedgerRecord.fresh(2), next=9))
    read = LedgerRecord.decode(orjson.dumps({**plain, "invented_later": [1, 2]}))
    assert read.next == 9


def test_account_from_dict_with_missing_field_raises():
    fields = account_to_dict(Account.fresh(1, 2))
    assert account_from_dict(fields).period == 1
    with pytest.raises(KeyError, match="charged"):
        account_from_dict({name: value for name, value in fields.items() if name != "charged"})


# --- accounts of periods before -----------------------------------------------------------------------------


def in_period(period: int, *before: int, **changes) -> LedgerRecord:
    past = {number: Account.fresh(number, 2) for number in before}
    return replace(LedgerRecord.fresh(4), account=Account.fresh(period, 2), past=past, **changes)


def test_entering_keeps_account_and_forgetting_drops_it():
    record = in_period(3, 2).entering(Account.fresh(5, 2))
    assert [account.period for account in record.accounts] == [5, 2, 3]
    assert record.closed is record.account_of(3)
    assert record.account_of(4) is None
    forgotten = record.forgetting(2)
    assert (list(forgotten.past), forgotten.forgotten) == ([3], 2)
    assert forgotten.forgetting(1) is forgotten
    assert LedgerRecord.fresh(1).entering(Account.fresh(1, 2)).past == {}, "nothing is before the first"


def test_ledger_log_uses_accounts_only_after_their_record():
    log, record = LedgerLog(), in_period(3, 1, 2)
    assert log.record() is None
    for period in (1, 2):
        assert not log.append(account_key(4, period), record.encode_account(period))
    assert log.record() is None
    assert log.loose
    assert log.append(lane_key(4), record.encode())
    first = log.record()
    assert list(first.past) == [1, 2]
    assert log.record() is first
    # the next transaction forgets one account and changes none
    log.append(account_key(4, 1), None)
    assert list(log.record().past) == [1, 2], "not committed as far as it is read"
    log.append(lane_key(4), record.forgetting(1).encode())
    assert (list(log.record().past), log.record().forgotten) == ([2], 1)
    assert log.record().account_of(2) is first.account_of(2), "what did not change is the same object"
    assert list(log.accounts()) == [3, 2]


def test_encoded_record_does_not_grow_with_past_periods():
    assert len(in_period(400, *range(1, 400)).encode()) == len(in_period(400).encode())


def test_deleted_markers_move_the_position_and_are_no_loss():
    record = in_period(3, next=5, sampled=5).without_deleted("input", 9, 1000.0)
    assert (record.next, record.deleted) == (9, {"input": [4, 9, 1000.0]})
    later = record.without_deleted("input", 12, 2000.0, 0)
    assert (later.next, later.sampled, later.deleted) == (12, 12, {"input": [4, 12, 1000.0]})
    alone = in_period(3, next=5).without_deleted("input", 6, 2000.0, 0)
    assert alone.deleted == {"input": [0, 6, 0.0]}
