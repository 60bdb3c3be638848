"""Reservations: as messages, and in a lane's memory until their outcomes arrive."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ledger.reservations import (
    BATCH_OVERHEAD_QUERIES,
    OPEN,
    OPEN_FACTOR,
    OpenReservations,
    ReservationBatch,
    decode_reservations,
    encode_reservations,
    id_digest,
    id_digests,
)


def batch(offsets: list[int], created_at: float = 0.0, **fields) -> ReservationBatch:
    n = len(offsets)
    columns = {
        "offsets": np.array(offsets, dtype=np.int64),
        "model": np.zeros(n, dtype=np.int64),
        "charge": np.full(n, 10, dtype=np.int64),
        "quality": np.full(n, 0.5),
        "ids": id_digests([f"q{offset}" for offset in offsets]),
        "available": np.array([100, 7], dtype=np.int64),
    }
    plain = {"period": 1, "version": 2, "revision": 3, "outcomes_next": 0}
    return ReservationBatch(**{**columns, **plain, "created_at": created_at, **fields})


int64 = st.integers(0, 2**63 - 1)
queries = st.lists(
    st.tuples(int64, st.integers(0, 2**15 - 1), int64, st.floats(0, 1, width=32), st.integers(0, 2**64 - 1)),
    max_size=20,
)


@given(queries, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), int64, st.floats(0, 2e9))
def test_reservation_batch_round_trips(rows, available, number, created_at):
    offsets, model, charge, quality, ids = ([row[i] for row in rows] for i in range(5))
    written = ReservationBatch(
        period=number,
        version=number,
        revision=number,
        outcomes_next=number,
        created_at=created_at,
        offsets=np.array(offsets, dtype=np.int64),
        model=np.array(model, dtype=np.int64),
        charge=np.array(charge, dtype=np.int64),
        quality=np.array(quality, dtype=np.float64),
        ids=np.array(ids, dtype=np.uint64),
        available=np.array(available, dtype=np.int64),
        begin=3,
        end=9,
    )
    read = decode_reservations(encode_reservations(written))
    for name in ("offsets", "model", "charge", "quality", "ids", "available"):
        assert getattr(read, name).tolist() == getattr(written, name).tolist()
        assert getattr(read, name).dtype == getattr(written, name).dtype
    for name in ("period", "version", "revision", "outcomes_next", "created_at", "begin", "end"):
        assert getattr(read, name) == getattr(written, name)
    assert (read.paid == OPEN).all()
    assert len(read.paid) == len(rows)


def test_id_digest_has_64_bits():
    assert id_digests(["a", "b", "é"]).tolist() == [id_digest("a"), id_digest("b"), id_digest("é")]
    assert len(set(id_digests([str(i) for i in range(5000)]).tolist())) == 5000


def test_find_returns_reservation_by_offset():
    known = OpenReservations(1000)
    known.append(5, batch([3, 4, 9]))
    known.append(6, batch([]))
    known.append(8, batch([12, 20]))
    matches = {offset: known.find(offset) for offset in range(25)}
    assert {offset for offset, hit in matches.items() if hit} == {3, 4, 9, 12, 20}
    hit = matches[20]
    assert hit is not None
    assert hit[0].offsets[hit[1]] == 20
    assert (known.first_offset, known.oldest(), len(known)) == (3, 5, 2)


def test_expire_by_time_removes_oldest_batches():
    known = OpenReservations(1000)
    for number in range(4):
        known.append(number, batch([number], created_at=float(number)))
    known.find(0)[0].paid[:] = 1
    assert not known.has_old(0.0)
    assert known.has_old(0.5)
    assert [int(expired.offsets[0]) for expired in known.expire(2.5)] == [0, 1, 2]
    assert known.find(2) is None
    assert known.find(3) is not None
    assert known.oldest() == 3
    assert [int(expired.offsets[0]) for expired in known.expire(99.0)] == [3]
    assert known.oldest() == 4, "a restart must not read again what lapsed"
    assert known.first_offset is None
    assert not known.has_old(99.0)


def test_oldest_without_batches_is_start_offset():
    assert OpenReservations(1000, start=17).oldest() == 17


def test_expire_by_memory_drops_settled_before_open_batches():
    most = 10 * (1 + BATCH_OVERHEAD_QUERIES)
    settled, still_open = OpenReservations(most), OpenReservations(most)
    for number in range(100):
        settled.append(number, batch([number], created_at=1e9))
        settled.find(number)[0].paid[:] = 1
        settled.expire(0.0)
        still_open.append(number, batch([number], created_at=1e9))
        still_open.expire(0.0)
    assert len(settled) == 10
    assert len(still_open) == 10 * OPEN_FACTOR


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=60))
def test_open_reservations_after_random_steps_equal_a_queue(steps):
    """Compare with a plain list: batches are appended at the end and expire at the front."""
    known, plain, offset = OpenReservations(10**6), [], 0
    for now, (count, leave) in enumerate(steps):
        offsets = list(range(offset, offset + 2 * count, 2))
        offset += 2 * count + 1
        known.append(now, batch(offsets, created_at=float(now)))
        plain.append((now, offsets))
        before = plain[min(leave, len(plain) - 1)][0] if leave < len(plain) else now + 1
        expired = known.expire(float(before))
        expected = [entry for entry in plain if entry[0] < before]
        plain = [entry for entry in plain if entry[0] >= before]
        assert [batch.offsets.tolist() for batch in expired] == [offsets for _, offsets in expected]
        remaining = {offset for _, offsets in plain for offset in offsets}
        assert {o for o in range(offset + 1) if known.find(o)} == remaining
        assert known.oldest() == (plain[0][0] if plain else now + 1)
        assert known.size == sum(len(offsets) + BATCH_OVERHEAD_QUERIES for _, offsets in plain)


@pytest.mark.parametrize("column", ["offsets", "charge", "ids"])
def test_decode_reservations_with_missing_column_raises(column):
    value = encode_reservations(batch([1, 2])).replace(b'"%s"' % column.encode(), b'"other"')
    with pytest.raises(KeyError):
        decode_reservations(value)


def test_oldest_open_follows_outcomes_and_expiry():
    open_reservations = OpenReservations(1000)
    for number in range(6):
        model = np.array([0, 1, 0], dtype=np.int64)
        open_reservations.append(
            number, batch([10 * number, 10 * number + 1, 10 * number + 2], 100.0 + number, model=model)
        )

    def settle(offset: int) -> None:
        found_batch, row = open_reservations.find(offset) or (None, 0)
        assert found_batch is not None
        found_batch.paid[row] = 5

    assert open_reservations.oldest_open(3) == {0: 100.0, 1: 100.0}
    settle(0)
    assert open_reservations.oldest_open(3) == {0: 100.0, 1: 100.0}, "another of the batch is open"
    settle(2)
    settle(11)
    assert open_reservations.oldest_open(3) == {0: 101.0, 1: 100.0}
    settle(1)
    assert open_reservations.oldest_open(3) == {0: 101.0, 1: 102.0}
    open_reservations.expire(104.0)
    assert open_reservations.oldest_open(3) == {0: 104.0, 1: 104.0}
    for offset in (40, 41, 42, 50, 51, 52):
        settle(offset)
    assert open_reservations.oldest_open(3) == {}
    open_reservations.append(6, batch([60], 106.0))
    assert open_reservations.oldest_open(3) == {0: 106.0}


@given(st.lists(st.one_of(st.integers(0, 39), st.floats(0, 12)), max_size=60), st.integers(0, 2**32 - 1))
def test_oldest_open_after_random_steps_equals_full_search(steps, seed):
    """Settle at random, expire old batches and append new ones."""
    rng, open_reservations, batches = np.random.default_rng(seed), OpenReservations(1000), []
    for number, step in enumerate(steps):
        if number % 6 == 0:
            offsets = [4 * len(batches) + i for i in range(4)]
            new = batch(offsets, float(len(batches)), model=rng.integers(0, 3, 4))
            open_reservations.append(len(batches), new)
            batches.append(new)
        if isinstance(step, float):
            open_reservations.expire(step)
            batches = [(b if b is None or b.created_at >= step else None) for b in batches]
        elif match := open_reservations.find(step):
            match[0].paid[match[1]] = 1
        expected = {}
        for one in batches:
            for model in one.model[one.paid == OPEN].tolist() if one is not None else ():
                expected.setdefault(model, one.created_at)
        assert open_reservations.oldest_open(3) == expected
