"""Offsets of idle lanes pass transaction markers: once, while the lane is idle, and again after an error."""

from streams.lanes.marker_commits import MarkerCommits
from tests.streams.lanes.lane_worker import TOPIC, Worker, kafka_error


async def settled(offsets: list[int]) -> Worker:
    worker = await Worker(offsets).start()
    await worker.drain_log()
    assert worker.lane.processor.next_offset == len(offsets)
    return worker


async def test_idle_lane_commits_the_end_of_the_markers_once():
    worker, commits = await settled([0, 1, 2]), []
    markers = MarkerCommits(
        worker.lanes, lambda place, offset: 5, lambda place, end: commits.append((place, end))
    )
    await markers.run()
    await markers.run()
    assert commits == [((TOPIC, 0), 5)]


async def test_lane_without_markers_or_with_work_commits_nothing():
    worker, commits = await settled([0, 1]), []
    none = MarkerCommits(worker.lanes, lambda place, offset: offset, lambda place, end: commits.append(end))
    await none.run()
    some = MarkerCommits(worker.lanes, lambda place, offset: 9, lambda place, end: commits.append(end))
    worker.lane.busy = True
    await some.run()
    worker.lane.busy = False
    worker.lanes.gate.clear()
    await some.run()
    assert commits == []
    worker.lanes.gate.set()
    await some.run()
    assert commits == [9]


async def test_start_does_not_wait_and_does_not_run_twice_at_a_time():
    worker, commits = await settled([0]), []
    markers = MarkerCommits(worker.lanes, lambda place, offset: 2, lambda place, end: commits.append(end))
    async with worker.lane.lock:
        markers.start()
        markers.start()
        await worker.settle()
        assert commits == []
    await worker.settle()
    assert commits == [2]


async def test_failed_commit_is_repeated():
    worker, commits, errors = await settled([0]), [], [kafka_error()]

    def commit(place: tuple[str, int], end: int) -> None:
        if errors:
            raise errors.pop()
        commits.append(end)

    markers = MarkerCommits(worker.lanes, lambda place, offset: 3, commit)
    await markers.run()
    assert commits == []
    await markers.run()
    assert commits == [3]
