"""Progress of a partition: what is committed says exactly which messages are done."""

from hypothesis import given
from hypothesis import strategies as st

from producers.fleet.progress import MAX_OFFSETS_AHEAD, OffsetProgress

OFFSETS = st.sets(st.integers(0, 60), max_size=40)


@given(offsets=OFFSETS, done=st.data())
def test_progress_restored_worker_starts_only_undone_messages(offsets: set[int], done: st.DataObject):
    """Any offsets (markers leave holes), finished in any order, committed at any time, taken over twice."""
    left = sorted(offsets)
    base, metadata = 0, None
    for _ in range(3):
        progress = OffsetProgress(base, metadata)
        started = [offset for offset in sorted(offsets) if offset >= base and progress.start(offset)]
        assert started == left
        finished = done.draw(st.permutations(started).map(lambda order: order[: len(order) // 2]))
        for offset in finished:
            base, metadata = progress.after([offset])
            progress.finish([offset])
        left = [offset for offset in left if offset not in finished]
        assert all(offset >= base for offset in left)


def test_progress_after_changes_nothing_until_finish():
    progress = OffsetProgress(5)
    for offset in (5, 6, 7):
        progress.start(offset)

    assert progress.after([5, 7]) == (6, progress.after([7, 5])[1])
    assert progress.ahead == 3
    assert all(progress.is_open(offset) for offset in (5, 6, 7))

    progress.finish([5, 7])

    assert progress.ahead == 2
    assert [progress.is_open(offset) for offset in (5, 6, 7)] == [False, True, False]
    assert [progress.is_done(offset) for offset in (4, 5, 6, 7, 8)] == [True, True, False, True, False]


def test_progress_message_starts_once():
    progress = OffsetProgress(3)

    assert [progress.start(offset) for offset in (3, 4, 3, 2)] == [True, True, False, False]


def test_progress_metadata_fits_the_brokers_limit():
    progress = OffsetProgress(0)
    for offset in range(MAX_OFFSETS_AHEAD + 1000):
        progress.start(offset)

    _, metadata = progress.after(range(1, MAX_OFFSETS_AHEAD + 1000))

    assert len(metadata) < 4096


def test_progress_foreign_metadata_is_ignored():
    for metadata in ("", "something else", "b1:not base64!", None):
        assert OffsetProgress(1, metadata).start(2)
