"""Lanes: batches of records, and work without records."""

import asyncio
from types import SimpleNamespace

import pytest

from streams.lanes import lanes as lanes_module
from streams.lanes.backlog import MAX_BATCH_BYTES
from streams.lanes.lanes import MAX_WAITING_BYTES, REST_SECONDS
from tests.streams.lanes.lane_worker import OTHER_TOPIC, TOPIC, HeldExecutor, Record, Worker


async def test_lane_many_records_processes_them_in_order_in_batches_of_at_most_batch_max():
    worker = await Worker(list(range(9))).start()
    worker.fetch(9)
    await worker.settle()
    assert worker.committed.routed == list(range(9))
    assert worker.committed.transactions == [4, 4, 1]
    await worker.stop()


async def test_lane_busy_puts_records_that_arrive_meanwhile_into_the_next_batch():
    executor = HeldExecutor()
    worker = Worker(list(range(9)), executor, batch_max=100)
    starting = asyncio.ensure_future(worker.start())
    await worker.settle()
    executor.release()
    await starting
    worker.fetch(2)
    await worker.settle()
    assert worker.lane.busy
    worker.fetch(3)
    worker.fetch(3)
    await worker.settle()
    executor.release()
    await worker.settle()
    executor.release()
    await worker.settle()
    assert worker.committed.transactions == [2, 6]
    stopping = asyncio.ensure_future(worker.stop())
    await worker.settle()
    executor.release()
    await stopping


async def test_lane_offsets_of_transaction_markers_are_no_holes():
    offsets = [0, 2, 3, 7, 20]
    worker = await Worker(offsets).start()
    worker.fetch(2)
    worker.fetch(3)
    await worker.settle()
    assert worker.committed.routed == offsets
    assert worker.lanes.events["hole"] == 0
    await worker.stop()


async def test_lane_large_records_fill_batch_and_lane_by_their_bytes():
    worker = await Worker([], batch_max=100, room_max=100).start()
    worker.processor.max_records = 0
    big = b"x" * (MAX_BATCH_BYTES // 2)
    for offset in range(MAX_WAITING_BYTES // len(big)):
        assert not worker.lane.full
        worker.lane.append(1, offset, [Record(offset, big)])
    assert worker.lane.full
    worker.processor.max_records = 100
    worker.lane.wake()
    await worker.settle()
    assert set(worker.committed.transactions) == {2}
    assert worker.lane.pending.bytes == 0
    assert not worker.lane.full
    worker.lane.append(1, 99, [Record(99, None)])
    await worker.settle()
    await worker.stop()


async def test_lane_many_waiting_records_is_full():
    worker = await Worker(list(range(30)), room_max=10).start()
    worker.processor.max_records = 0
    worker.fetch(9)
    assert not worker.lane.full
    worker.fetch(1)
    assert worker.lane.full
    await worker.stop()


async def test_lane_max_records_of_processor_limits_the_batch():
    worker = await Worker(list(range(9))).start()
    worker.processor.max_records = 0
    worker.fetch(9)
    await worker.settle()
    assert worker.committed.routed == []
    worker.processor.max_records = 2
    worker.lanes.wake(OTHER_TOPIC)
    await worker.settle()
    assert worker.committed.routed == []
    worker.lanes.wake(TOPIC)
    await worker.settle()
    assert worker.committed.routed == list(range(9))
    assert set(worker.committed.transactions) == {2, 1}
    await worker.stop()


async def test_wake_with_pending_work_processes_without_records():
    worker = await Worker([]).start()
    worker.processor.has_pending_work = True
    await worker.settle()
    assert worker.committed.transactions == []
    worker.lanes.wake(TOPIC)
    await worker.settle()
    assert worker.committed.transactions == [0]
    await worker.stop()


async def test_wake_lane_wakes_only_that_partition():
    worker = await Worker([]).start()
    worker.processor.has_pending_work = True
    worker.lanes.wake_lane(TOPIC, 1)
    worker.lanes.wake_lane(OTHER_TOPIC, 0)
    await worker.settle()
    assert worker.committed.transactions == []
    worker.lanes.wake_lane(TOPIC, 0)
    await worker.settle()
    assert worker.committed.transactions == [0]
    await worker.stop()


@pytest.mark.parametrize(
    ("took", "options", "rests"),
    [
        (0.04, {"rest": 0.5}, [pytest.approx(0.02)]),
        (9.0, {"rest": 0.5}, [pytest.approx(REST_SECONDS)]),
        (0.04, {"rest": 0.5, "transaction_seconds": 0.1}, [pytest.approx(0.1)]),
        (0.04, {"rest": 0.5, "batch_max": 2}, []),
    ],
)
async def test_lane_pauses_after_a_transaction_unless_the_next_is_full(monkeypatch, took, options, rests):
    now, rested, sleep = [100.0], [], asyncio.sleep

    async def rest(seconds: float) -> None:
        if seconds:
            rested.append(seconds)
        await sleep(0)

    worker = await Worker(list(range(4)), **options).start()
    monkeypatch.setattr(lanes_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(asyncio, "sleep", rest)
    process = worker.processor.process

    def slow(records: list[Record]) -> None:
        now[0] += took
        process(records)

    worker.processor.process = slow
    for _ in range(2):
        worker.fetch(2)
        await worker.settle()
    assert worker.committed.routed == [0, 1, 2, 3]
    assert rested == rests
    monkeypatch.undo()
    await worker.stop()
