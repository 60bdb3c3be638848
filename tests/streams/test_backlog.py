"""What waits in a lane comes out in order, whole, and never across a hole."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import backlog as backlog_module
from streams.backlog import Backlog, Stretch


@dataclass(frozen=True)
class Record:
    offset: int
    value: bytes | None = b"1234"


def stretch(begin: int, *offsets: int, generation: int = 1) -> Stretch:
    return Stretch(generation, begin, [Record(offset) for offset in offsets])


def offsets(taken: Stretch) -> list[int]:
    return [record.offset for record in taken.records]


def test_stretches_that_follow_each_other_are_taken_together():
    waiting = Backlog()
    waiting.add(stretch(0, 0, 1, 3))
    waiting.add(stretch(4, 5))
    taken = waiting.take(10)
    assert (taken.begin, offsets(taken), taken.end) == (0, [0, 1, 3, 5], 6)
    assert not waiting
    assert waiting.bytes == 0


@pytest.mark.parametrize("after", [stretch(9, 9), stretch(4, 4, generation=2), stretch(2, 2)])
def test_a_hole_an_older_position_and_another_generation_end_a_stretch(after: Stretch):
    waiting = Backlog()
    waiting.add(stretch(0, 0, 1, 3))
    waiting.add(after)
    assert offsets(waiting.take(10)) == [0, 1, 3]
    rest = waiting.take(10)
    assert (rest.generation, rest.begin, offsets(rest)) == (after.generation, after.begin, offsets(after))


def test_what_is_left_of_a_stretch_begins_where_the_taken_part_ended():
    waiting = Backlog()
    waiting.add(stretch(0, 2, 5, 8))
    assert offsets(waiting.take(2)) == [2, 5]
    rest = waiting.take(2)
    assert (rest.begin, offsets(rest)) == (6, [8])


def test_a_transaction_takes_no_record_after_its_bytes_are_reached(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backlog_module, "BATCH_BYTES", 10)
    waiting = Backlog()
    waiting.add(stretch(0, *range(5)))
    waiting.add(stretch(5, *range(5, 8)))
    assert offsets(waiting.take(100)) == [0, 1, 2]
    assert (len(waiting), waiting.bytes) == (5, 20)
    assert offsets(waiting.take(100)) == [3, 4, 5]


def test_one_record_is_taken_however_large_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backlog_module, "BATCH_BYTES", 3)
    waiting = Backlog()
    waiting.add(stretch(0, 0, 1))
    assert offsets(waiting.take(100)) == [0]


def test_an_empty_fetch_and_a_tombstone_take_no_room():
    waiting = Backlog()
    waiting.add(stretch(0))
    waiting.add(Stretch(1, 0, [Record(0, None)]))
    assert (len(waiting), waiting.bytes) == (1, 0)
    assert offsets(waiting.take(1)) == [0]


def test_nothing_is_left_after_clearing():
    waiting = Backlog()
    waiting.add(stretch(0, 0, 1))
    waiting.clear()
    assert (len(waiting), waiting.bytes) == (0, 0)
    with pytest.raises(IndexError):
        waiting.take(1)


@given(
    st.lists(st.lists(st.integers(1, 3), max_size=6), max_size=6),
    st.lists(st.integers(1, 7), min_size=1, max_size=40),
)
def test_all_records_come_out_once_and_in_order(fetches, sizes):
    waiting, begin, expected = Backlog(), 0, []
    for gaps in fetches:
        found = []
        for gap in gaps:
            found.append((found[-1] if found else begin - 1) + gap)
        waiting.add(stretch(begin, *found))
        expected += found
        begin = found[-1] + 1 if found else begin
    taken: list[int] = []
    for size in sizes:
        if not waiting:
            break
        one = waiting.take(size)
        assert 0 < len(one.records) <= size
        assert one.begin == (taken[-1] + 1 if taken else 0)
        taken += offsets(one)
        assert len(waiting) == len(expected) - len(taken)
        assert waiting.bytes == 4 * len(waiting)
    assert taken == expected[: len(taken)]
