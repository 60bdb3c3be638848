"""Reservations: as messages, and as what a lane keeps in memory until their outcomes come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.reservations import (
    BATCH_WEIGHT,
    OPEN,
    OPEN_FACTOR,
    OpenReservations,
    Reserved,
    decode_reserved,
    encode_reserved,
    id_digest,
    id_digests,
)


def batch(offsets: list[int], created_at: float = 0.0, **fields) -> Reserved:
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
    return Reserved(**{**columns, **plain, "created_at": created_at, **fields})


int64 = st.integers(0, 2**63 - 1)
queries = st.lists(
    st.tuples(int64, st.integers(0, 2**15 - 1), int64, st.floats(0, 1, width=32), st.integers(0, 2**64 - 1)),
    max_size=20,
)


@given(queries, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), int64, st.floats(0, 2e9))
@settings(deadline=None)
def test_a_message_gives_back_what_was_written(rows, available, number, created_at):
    offsets, model, charge, quality, ids = ([row[i] for row in rows] for i in range(5))
    written = Reserved(
        period=number, version=number, revision=number, outcomes_next=number, created_at=created_at,
        offsets=np.array(offsets, dtype=np.int64), model=np.array(model, dtype=np.int64),
        charge=np.array(charge, dtype=np.int64), quality=np.array(quality, dtype=np.float64),
        ids=np.array(ids, dtype=np.uint64), available=np.array(available, dtype=np.int64), begin=3, end=9,
    )  # fmt: skip
    read = decode_reserved(encode_reserved(written))
    for name in ("offsets", "model", "charge", "quality", "ids", "available"):
        assert getattr(read, name).tolist() == getattr(written, name).tolist()
        assert getattr(read, name).dtype == getattr(written, name).dtype
    for name in ("period", "version", "revision", "outcomes_next", "created_at", "begin", "end"):
        assert getattr(read, name) == getattr(written, name)
    assert (read.paid == OPEN).all()
    assert len(read.paid) == len(rows)


def test_ids_are_told_apart_by_64_bits():
    assert id_digests(["a", "b", "é"]).tolist() == [id_digest("a"), id_digest("b"), id_digest("é")]
    assert len(set(id_digests([str(i) for i in range(5000)]).tolist())) == 5000


def test_queries_are_found_by_their_offset():
    known = OpenReservations(1000)
    known.add(5, batch([3, 4, 9]))
    known.add(6, batch([]))
    known.add(8, batch([12, 20]))
    found = {offset: known.find(offset) for offset in range(25)}
    assert {offset for offset, hit in found.items() if hit} == {3, 4, 9, 12, 20}
    hit = found[20]
    assert hit is not None
    assert hit[0].offsets[hit[1]] == 20
    assert (known.first_offset, known.oldest(), len(known)) == (3, 5, 2)


def test_time_gives_up_the_oldest_batches_open_or_settled():
    known = OpenReservations(1000)
    for number in range(4):
        known.add(number, batch([number], created_at=float(number)))
    known.find(0)[0].paid[:] = 1
    assert not known.has_old(0.0)
    assert known.has_old(0.5)
    assert [int(gone.offsets[0]) for gone in known.expire(2.5)] == [0, 1, 2]
    assert known.find(2) is None
    assert known.find(3) is not None
    assert known.oldest() == 3
    assert [int(gone.offsets[0]) for gone in known.expire(99.0)] == [3]
    assert known.oldest() == 4, "a restart must not read again what lapsed"
    assert known.first_offset is None
    assert not known.has_old(99.0)


def test_after_a_restart_without_any_the_next_one_is_where_it_was():
    assert OpenReservations(1000, start=17).oldest() == 17


def test_memory_is_bounded_for_settled_ones_earlier_than_for_open_ones():
    most = 10 * (1 + BATCH_WEIGHT)
    settled, still_open = OpenReservations(most), OpenReservations(most)
    for number in range(100):
        settled.add(number, batch([number], created_at=1e9))
        settled.find(number)[0].paid[:] = 1
        settled.expire(0.0)
        still_open.add(number, batch([number], created_at=1e9))
        still_open.expire(0.0)
    assert len(settled) == 10
    assert len(still_open) == 10 * OPEN_FACTOR


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=60))
@settings(deadline=None)
def test_kept_ones_are_a_queue(steps):
    """Against a plain list: batches join at the end, and leave at the front as time passes."""
    known, plain, offset = OpenReservations(10**6), [], 0
    for now, (count, leave) in enumerate(steps):
        offsets = list(range(offset, offset + 2 * count, 2))
        offset += 2 * count + 1
        known.add(now, batch(offsets, created_at=float(now)))
        plain.append((now, offsets))
        before = plain[min(leave, len(plain) - 1)][0] if leave < len(plain) else now + 1
        gone = known.expire(float(before))
        expected = [entry for entry in plain if entry[0] < before]
        plain = [entry for entry in plain if entry[0] >= before]
        assert [batch.offsets.tolist() for batch in gone] == [offsets for _, offsets in expected]
        kept = {offset for _, offsets in plain for offset in offsets}
        assert {o for o in range(offset + 1) if known.find(o)} == kept
        assert known.oldest() == (plain[0][0] if plain else now + 1)
        assert known.size == sum(len(offsets) + BATCH_WEIGHT for _, offsets in plain)


@pytest.mark.parametrize("column", ["offsets", "charge", "ids"])
def test_a_message_that_is_not_whole_is_an_error(column):
    value = encode_reserved(batch([1, 2])).replace(b'"%s"' % column.encode(), b'"other"')
    with pytest.raises(KeyError):
        decode_reserved(value)
