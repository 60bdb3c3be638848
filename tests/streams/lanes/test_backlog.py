"""A lane's backlog returns all records in order, and never across a gap."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.lanes import backlog as backlog_module
from streams.lanes.backlog import Backlog, RecordRun


@dataclass(frozen=True)
class Record:
    offset: int
    value: bytes | None = b"1234"


def stretch(begin: int, *offsets: int, generation: int = 1) -> RecordRun:
    return RecordRun(generation, begin, [Record(offset) for offset in offsets])


def offsets(run: RecordRun) -> list[int]:
    return [record.offset for record in run.records]


def test_pop_consecutive_runs_are_one_batch():
    waiting = Backlog()
    waiting.append(stretch(0, 0, 1, 3))
    waiting.append(stretch(4, 5))
    run = waiting.pop(10)
    assert (run.begin, offsets(run), run.end) == (0, [0, 1, 3, 5], 6)
    assert not waiting
    assert waiting.bytes == 0


@pytest.mark.parametrize("after", [stretch(9, 9), stretch(4, 4, generation=2), stretch(2, 2)])
def test_pop_gap_or_other_generation_ends_the_batch(after: RecordRun):
    waiting = Backlog()
    waiting.append(stretch(0, 0, 1, 3))
    waiting.append(after)
    assert offsets(waiting.pop(10)) == [0, 1, 3]
    rest = waiting.pop(10)
    assert (rest.generation, rest.begin, offsets(rest)) == (after.generation, after.begin, offsets(after))


def test_pop_part_of_a_run_leaves_the_rest_with_its_begin():
    waiting = Backlog()
    waiting.append(stretch(0, 2, 5, 8))
    assert offsets(waiting.pop(2)) == [2, 5]
    rest = waiting.pop(2)
    assert (rest.begin, offsets(rest)) == (6, [8])


def test_pop_batch_ends_once_its_bytes_are_reached(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backlog_module, "MAX_BATCH_BYTES", 10)
    waiting = Backlog()
    waiting.append(stretch(0, *range(5)))
    waiting.append(stretch(5, *range(5, 8)))
    assert offsets(waiting.pop(100)) == [0, 1, 2]
    assert (len(waiting), waiting.bytes) == (5, 20)
    assert offsets(waiting.pop(100)) == [3, 4, 5]


def test_pop_large_record_is_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backlog_module, "MAX_BATCH_BYTES", 3)
    waiting = Backlog()
    waiting.append(stretch(0, 0, 1))
    assert offsets(waiting.pop(100)) == [0]


def test_append_empty_fetch_and_null_value_have_no_bytes():
    waiting = Backlog()
    waiting.append(stretch(0))
    waiting.append(RecordRun(1, 0, [Record(0, None)]))
    assert (len(waiting), waiting.bytes) == (1, 0)
    assert offsets(waiting.pop(1)) == [0]


def test_clear_drops_everything():
    waiting = Backlog()
    waiting.append(stretch(0, 0, 1))
    waiting.clear()
    assert (len(waiting), waiting.bytes) == (0, 0)
    with pytest.raises(IndexError):
        waiting.pop(1)


@given(
    st.lists(st.lists(st.integers(1, 3), max_size=6), max_size=6),
    st.lists(st.integers(1, 7), min_size=1, max_size=40),
)
def test_pop_any_sizes_return_every_record_once_and_in_order(fetches, sizes):
    waiting, begin, expected = Backlog(), 0, []
    for gaps in fetches:
        run_offsets = []
        for gap in gaps:
            run_offsets.append((run_offsets[-1] if run_offsets else begin - 1) + gap)
        waiting.append(stretch(begin, *run_offsets))
        expected += run_offsets
        begin = run_offsets[-1] + 1 if run_offsets else begin
    popped: list[int] = []
    for size in sizes:
        if not waiting:
            break
        one = waiting.pop(size)
        assert 0 < len(one.records) <= size
        assert one.begin == (popped[-1] + 1 if popped else 0)
        popped += offsets(one)
        assert len(waiting) == len(expected) - len(popped)
        assert waiting.bytes == 4 * len(waiting)
    assert popped == expected[: len(popped)]
