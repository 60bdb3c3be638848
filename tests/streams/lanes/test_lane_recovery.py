"""Lanes commit every record once and in order: lost fetches, errors, warm-up and any mix of events."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams.lanes.lane_worker import TOPIC, Committed, Record, Worker


async def test_lane_lost_fetch_is_a_hole_and_is_fetched_again():
    worker = await Worker(list(range(12))).start()
    worker.fetch(3)
    worker.fetch(3, lost=True)
    worker.fetch(3)
    await worker.settle()
    assert worker.committed.routed == [0, 1, 2]
    assert worker.lanes.events["hole"] == 1
    await worker.drain_log()
    assert worker.committed.routed == list(range(12))
    await worker.stop()


async def test_detect_lost_tail_same_positions_twice_needs_seek():
    worker = await Worker(list(range(6))).start()
    worker.fetch(3)
    worker.fetch(3, lost=True)
    await worker.settle()
    needed = []
    for _ in range(2):
        worker.lanes.detect_lost_tail(lambda topic, partition: worker.cursor)
        needed.append(worker.lane.needs_seek)
    assert needed == [False, True]
    assert worker.lanes.events["tail"] == 1
    await worker.drain_log()
    assert worker.committed.routed == list(range(6))
    await worker.stop()


async def test_detect_lost_tail_partition_without_position_needs_seek():
    worker = await Worker(list(range(3))).start()
    for _ in range(2):
        worker.lanes.detect_lost_tail(lambda topic, partition: None)
    assert worker.lane.needs_seek
    await worker.stop()


async def test_detect_lost_tail_lane_at_the_end_needs_no_seek():
    worker = await Worker(list(range(3))).start()
    worker.fetch(3)
    await worker.settle()
    for _ in range(3):
        worker.lanes.detect_lost_tail(lambda topic, partition: worker.cursor)
    assert not worker.lane.needs_seek
    await worker.stop()


async def test_lane_fetch_of_an_old_generation_is_dropped():
    worker = await Worker(list(range(6))).start()
    worker.processor.max_records = 0
    worker.fetch(3)
    worker.generation = 2
    worker.processor.max_records = 9
    worker.lane.wake()
    await worker.settle()
    assert worker.committed.routed == []
    worker.cursor = 0
    await worker.drain_log()
    assert worker.committed.routed == list(range(6))
    await worker.stop()


async def test_lane_committed_records_are_skipped():
    worker = await Worker(list(range(6))).start()
    worker.fetch(6)
    await worker.settle()
    worker.cursor = 2
    worker.fetch(4)
    await worker.settle()
    assert worker.committed.routed == list(range(6))
    await worker.stop()


@pytest.mark.parametrize("failure", ["before", "after"])
async def test_lane_kafka_error_reloads_and_continues_at_the_committed_offset(failure):
    worker = await Worker(list(range(9))).start()
    worker.processor.failures = [failure]
    worker.fetch(9)
    await worker.settle()
    assert worker.processor.calls[:4] == ["open", "process", "close", "open"]
    assert worker.lanes.events["reload"] == 1
    await worker.drain_log()
    assert worker.committed.routed == list(range(9))
    await worker.stop()


async def test_lane_failed_opening_is_retried():
    worker = Worker(list(range(3)))
    worker.processor.failures = ["open", "open"]
    await worker.start()
    await worker.drain_log()
    assert worker.processor.calls[:3] == ["open", "open", "open"]
    assert worker.committed.routed == [0, 1, 2]
    await worker.stop()


async def test_lane_other_error_crashes_the_worker_with_it():
    worker = await Worker(list(range(3))).start()
    reason = ValueError("a fault of the program")
    worker.processor.failures = [reason]
    worker.fetch(3)
    await worker.settle()
    assert worker.crashes == [reason]
    assert worker.committed.routed == []


async def test_lane_end_of_warm_up_seeks_back_and_routes_sampled_queries():
    worker = Worker(list(range(12)))
    worker.processor.learned = False
    await worker.start()
    worker.fetch(5)
    await worker.settle()
    worker.fetch(2)
    await worker.settle()
    assert (worker.committed.next, worker.committed.sampled) == (0, 7)
    worker.processor.learned = True
    worker.lanes.wake(TOPIC)
    await worker.settle()
    assert worker.lane.needs_seek
    await worker.drain_log()
    assert worker.committed.routed == list(range(12))
    assert worker.committed.samples == list(range(7)), "none is sent twice"
    await worker.stop()


async def test_lane_fetch_in_flight_at_end_of_warm_up_is_not_routed():
    worker = Worker(list(range(12)))
    worker.processor.learned = False
    await worker.start()
    worker.fetch(5)
    await worker.settle()
    worker.processor.learned = True
    worker.lane.append(1, worker.cursor, [Record(5), Record(6)])
    await worker.settle()
    assert worker.committed.routed == []
    await worker.drain_log()
    assert worker.committed.routed == list(range(12))
    await worker.stop()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("rest"), st.just(0), st.just(False)),
        st.tuples(st.just("rebalance"), st.integers(0, 1), st.booleans()),
        st.tuples(st.just("fail"), st.integers(0, 2), st.just(False)),
        st.tuples(st.just("watch"), st.just(0), st.just(False)),
        st.tuples(st.just("learn"), st.just(0), st.just(False)),
        st.tuples(st.just("stale"), st.integers(0, 10), st.just(False)),
    ),
    max_size=25,
)


@given(EVENTS, st.booleans(), st.lists(st.integers(1, 3), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_lanes_any_sequence_of_events_commits_every_record_once_and_in_order(events, learned, gaps):
    offsets = [sum(gaps[: i + 1]) - 1 for i in range(len(gaps))]

    async def play() -> Committed:
        worker = Worker(offsets)
        worker.processor.learned = learned
        await worker.start()
        for name, number, flag in events:
            if name == "fetch":
                worker.fetch(number, lost=flag)
            elif name == "rest":
                await worker.settle()
            elif name == "rebalance":
                await worker.rebalance(lost=bool(number), seeks=flag)
            elif name == "fail":
                worker.processor.failures.append(("before", "after", "open")[number])
            elif name == "watch":
                worker.lanes.detect_lost_tail(lambda topic, partition: worker.cursor)
            elif name == "learn":
                worker.processor.learned = True
                worker.lanes.wake(TOPIC)
            else:
                # the consumer goes on from an old position, with or without its lane's knowledge
                worker.cursor = min(worker.cursor, number)
        worker.processor.learned = True
        worker.lanes.wake(TOPIC)
        await worker.drain_log()
        assert worker.crashes == []
        await worker.stop()
        return worker.committed

    committed = asyncio.run(play())
    assert committed.routed == offsets
    assert committed.samples == offsets[: len(committed.samples)]
