"""Progress of a partition: what is committed says exactly which messages are done."""

from hypothesis import given
from hypothesis import strategies as st

from producers.fleet_progress import MOST_AHEAD, Progress

OFFSETS = st.sets(st.integers(0, 60), max_size=40)


@given(offsets=OFFSETS, done=st.data())
def test_a_worker_that_takes_over_takes_what_is_not_done_and_nothing_else(
    offsets: set[int], done: st.DataObject
):
    """Any offsets (markers leave holes), finished in any order, committed at any time, taken over twice."""
    left = sorted(offsets)
    base, metadata = 0, None
    for _ in range(3):
        progress = Progress(base, metadata)
        taken = [offset for offset in sorted(offsets) if offset >= base and progress.take(offset)]
        assert taken == left
        finished = done.draw(st.permutations(taken).map(lambda order: order[: len(order) // 2]))
        for offset in finished:
            base, metadata = progress.after([offset])
            progress.finish([offset])
        left = [offset for offset in left if offset not in finished]
        assert all(offset >= base for offset in left)


def test_what_is_prepared_changes_nothing_until_it_is_finished():
    progress = Progress(5)
    for offset in (5, 6, 7):
        progress.take(offset)

    assert progress.after([5, 7]) == (6, progress.after([7, 5])[1])
    assert progress.ahead == 3
    assert all(progress.is_open(offset) for offset in (5, 6, 7))

    progress.finish([5, 7])

    assert progress.ahead == 2
    assert [progress.is_open(offset) for offset in (5, 6, 7)] == [False, True, False]
    assert [progress.is_done(offset) for offset in (4, 5, 6, 7, 8)] == [True, True, False, True, False]


def test_a_message_is_taken_once():
    progress = Progress(3)

    assert [progress.take(offset) for offset in (3, 4, 3, 2)] == [True, True, False, False]


def test_the_metadata_fits_what_a_broker_keeps():
    progress = Progress(0)
    for offset in range(MOST_AHEAD + 1000):
        progress.take(offset)

    _, metadata = progress.after(range(1, MOST_AHEAD + 1000))

    assert len(metadata) < 4096


def test_metadata_of_others_says_nothing():
    for metadata in ("", "something else", "b1:not base64!", None):
        assert Progress(1, metadata).take(2)
