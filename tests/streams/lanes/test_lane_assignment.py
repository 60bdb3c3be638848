"""Lanes while partitions move between workers, and at shutdown."""

import asyncio

from tests.streams.lanes.lane_worker import TOPIC, HeldExecutor, Record, Worker


async def test_assign_without_the_partition_closes_its_lane_and_drops_its_records():
    worker = await Worker(list(range(6))).start()
    worker.processor.max_records = 0
    worker.fetch(3)
    await worker.lanes.drain()
    await worker.lanes.assign(set(), set())
    worker.lanes.resume()
    worker.lane.append(1, 3, [Record(3)])
    worker.processor.max_records = 9
    await worker.settle()
    assert worker.processor.calls == ["open", "close"]
    assert not worker.lane.pending
    assert worker.committed.routed == []
    assert worker.lanes[TOPIC] == []
    assert worker.lanes.positions([(TOPIC, 0)]) == {}
    await worker.stop()


async def test_assign_of_a_returning_partition_opens_its_lane_again():
    worker = await Worker(list(range(6))).start()
    worker.committed.next = 2  # another owner decided these meanwhile
    await worker.rebalance(lost=True)
    assert worker.processor.calls == ["open", "close", "open"]
    await worker.drain_log()
    assert worker.committed.routed == [2, 3, 4, 5]
    await worker.stop()


async def test_drain_starts_no_transaction_until_resume():
    worker = await Worker(list(range(6))).start()
    await worker.lanes.drain()
    worker.fetch(3)
    worker.lanes.wake(TOPIC)
    worker.lanes.detect_lost_tail(lambda topic, partition: worker.cursor)
    await worker.settle()
    assert worker.processor.calls == ["open"]
    worker.lanes.resume()
    await worker.settle()
    assert worker.committed.routed == [0, 1, 2]
    await worker.stop()


async def test_drain_waits_for_a_transaction_in_flight():
    executor = HeldExecutor()
    worker = Worker(list(range(6)), executor)
    starting = asyncio.ensure_future(worker.start())
    await worker.settle()
    executor.release()
    await starting
    worker.fetch(3)
    await worker.settle()
    draining = asyncio.ensure_future(worker.lanes.drain())
    await worker.settle()
    assert not draining.done()
    executor.release()
    await draining
    assert worker.committed.routed == [0, 1, 2]
    stopping = asyncio.ensure_future(worker.stop())
    await worker.settle()
    executor.release()
    await stopping
    assert worker.processor.calls[-1] == "close"


async def test_shutdown_finishes_the_transaction_in_flight_and_starts_no_other():
    executor = HeldExecutor()
    worker = Worker(list(range(6)), executor)
    starting = asyncio.ensure_future(worker.start())
    await worker.settle()
    executor.release()
    await starting
    worker.fetch(2)
    await worker.settle()
    worker.fetch(2)
    shutdown = asyncio.ensure_future(worker.lanes.shutdown())
    await worker.settle()
    assert worker.processor.calls == ["open"], "the transaction waits for its thread"
    while not shutdown.done():
        executor.release()
        await worker.settle()
    assert worker.committed.routed == [0, 1]
    assert worker.processor.calls == ["open", "process", "close"]
    assert worker.crashes == []


async def test_shutdown_closes_all_lanes_concurrently():
    executor = HeldExecutor()
    worker = Worker([], executor)
    places = {(TOPIC, partition) for partition in range(3)}
    starting = asyncio.ensure_future(worker.lanes.assign(places, places))
    await worker.settle()
    executor.release()
    await starting
    shutdown = asyncio.ensure_future(worker.lanes.shutdown())
    await worker.settle()
    assert len(executor.calls) == 3, "none waits for another"
    executor.release()
    await shutdown
    assert worker.processor.calls == ["open"] * 3 + ["close"] * 3
