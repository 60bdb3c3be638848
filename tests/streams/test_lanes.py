"""Lanes: every record is taken once and in order, whatever gets lost between fetch and commit."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import lanes as lanes_module
from streams.backlog import BATCH_BYTES
from streams.lanes import REST_SECONDS, ROOM_BYTES, Lane, Lanes

TOPIC, ODD = "queries", "other"


@dataclass
class Record:
    offset: int
    value: bytes | None = b"{}"
    topic: str = TOPIC
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple = ()


class Inline(Executor):
    """Runs at once, so that a test needs no threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        done: Future = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class Held(Executor):
    """Runs when it is told to: work is in flight until then."""

    def __init__(self) -> None:
        self.held: list[tuple[Future, Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        self.held.append((future, lambda: fn(*args, **kwargs)))
        return future

    def release(self) -> None:
        while self.held:
            future, run = self.held.pop(0)
            future.set_result(run())


@dataclass
class Committed:
    """What the partition's ledger and the topics hold: all that outlives a desk."""

    next: int = 0
    sampled: int = 0
    routed: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    transactions: list[int] = field(default_factory=list)


def kafka_error() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._FENCED, "fenced"))


class FakeDesk:
    """Commits to `Committed`, or fails before or after."""

    def __init__(self, committed: Committed) -> None:
        self.committed = committed
        self.learned = True
        self.waiting = False
        self.limit = 1 << 30
        self.restless = False
        self.failures: list[str | BaseException] = []
        self.calls: list[str] = []
        self._seen = Committed()

    def open(self) -> None:
        self.calls.append("open")
        if self.failures and self.failures[0] == "open":
            self.failures.pop(0)
            raise kafka_error()
        self._load()

    def _load(self) -> None:
        self._seen = Committed(self.committed.next, self.committed.sampled)

    def close(self) -> None:
        self.calls.append("close")

    def look(self) -> None:
        self.waiting = not self.learned

    @property
    def position(self) -> int:
        return max(self._seen.next, self._seen.sampled) if self.waiting else self._seen.next

    def step(self, records: list[Record]) -> None:
        self.calls.append("step")
        failure = self.failures.pop(0) if self.failures else None
        if failure == "before":
            raise kafka_error()
        if isinstance(failure, BaseException):
            raise failure
        offsets = [record.offset for record in records]
        self.committed.transactions.append(len(offsets))
        if self.waiting:
            self.committed.samples += offsets
            self.committed.sampled = max(self.committed.sampled, *(o + 1 for o in offsets), 0)
        elif offsets:
            self.committed.routed += offsets
            self.committed.next = offsets[-1] + 1
        if failure == "after":
            raise kafka_error()
        self._load()


class Worker:
    """A consumer's side of one partition: where the next fetch begins, and what it brings."""

    def __init__(self, offsets: list[int], executor: Executor | None = None, **options: Any) -> None:
        self.log = offsets
        self.committed = Committed()
        self.desk = FakeDesk(self.committed)
        self.generation = 1
        self.crashes: list[BaseException] = []
        self.cursor = 0
        wiring = {"batch_max": 4, "room_max": 10, "transaction_seconds": 0.0, "rest": 0.0} | options
        self.lanes = Lanes(
            lambda topic, partition: self.desk, {TOPIC}, executor or Inline(), lambda: self.generation,
            self.crashes.append, **wiring,
        )  # fmt: skip

    @property
    def lane(self) -> Lane:
        return self.lanes.lane(TOPIC, 0)

    async def start(self) -> "Worker":
        await self.lanes.assign({(TOPIC, 0)}, {(TOPIC, 0)})
        self.lanes.go()
        await self.rest()
        self.obey()
        return self

    def obey(self) -> None:
        """Seek where the lane has to go on, as the consumer does before a fetch."""
        if self.lane.send_back and self.lane.open and self.lane.assigned:
            self.lane.send_back = False
            self.lane.clear()
            self.cursor = self.lane.desk.position

    def fetch(self, most: int, *, lost: bool = False) -> int:
        """Put the next records in the lane, unless they get lost on the way; returns how many."""
        self.obey()
        found = [Record(offset) for offset in self.log if offset >= self.cursor][:most]
        if found:
            begin, self.cursor = self.cursor, found[-1].offset + 1
            if not lost:
                self.lane.add(self.generation, begin, found)
        return len(found)

    async def rest(self) -> None:
        """Let everything run that can."""
        for _ in range(60):
            await asyncio.sleep(0)

    async def rebalance(self, *, lost: bool = False, seeks: bool = True) -> None:
        """The partition stays or comes back; a consumer may go on from its old position (`seeks` false)."""
        await self.lanes.quiesce()
        self.generation += 1
        await self.lanes.assign({(TOPIC, 0)}, {(TOPIC, 0)} if lost else set())
        if seeks:
            # a lane that could not be opened has no position yet: it is sent back when it is
            self.cursor = self.lanes.positions([(TOPIC, 0)]).get((TOPIC, 0), self.cursor)
        self.lanes.go()
        await self.rest()

    async def finish(self) -> None:
        """Fetch, and watch for lost tails, until the whole log is taken."""
        for _ in range(300):
            fetched = self.fetch(3)
            await self.rest()
            if not fetched and self.committed.next > max(self.log, default=-1):
                return
            self.lanes.watch(lambda topic, partition: self.cursor)
        raise AssertionError(f"stuck at {self.committed.next}; calls {self.desk.calls[-9:]}")

    async def stop(self) -> None:
        await self.lanes.leave()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "RETRY_SECONDS", 0)


# --- batches ------------------------------------------------------------------------------------------------


async def test_records_are_taken_in_order_in_transactions_of_at_most_batch_max():
    worker = await Worker(list(range(9))).start()
    worker.fetch(9)
    await worker.rest()
    assert worker.committed.routed == list(range(9))
    assert worker.committed.transactions == [4, 4, 1]
    await worker.stop()


async def test_what_comes_while_a_transaction_runs_goes_into_the_next():
    held = Held()
    worker = Worker(list(range(9)), held, batch_max=100)
    starting = asyncio.ensure_future(worker.start())
    await worker.rest()
    held.release()
    await starting
    worker.fetch(2)
    await worker.rest()
    assert worker.lane.busy
    worker.fetch(3)
    worker.fetch(3)
    await worker.rest()
    held.release()
    await worker.rest()
    held.release()
    await worker.rest()
    assert worker.committed.transactions == [2, 6]
    stopping = asyncio.ensure_future(worker.stop())
    await worker.rest()
    held.release()
    await stopping


async def test_offsets_that_markers_take_are_no_holes():
    offsets = [0, 2, 3, 7, 20]
    worker = await Worker(offsets).start()
    worker.fetch(2)
    worker.fetch(3)
    await worker.rest()
    assert worker.committed.routed == offsets
    assert worker.lanes.events["hole"] == 0
    await worker.stop()


async def test_large_records_fill_a_transaction_and_a_lane_by_their_bytes():
    worker = await Worker([], batch_max=100, room_max=100).start()
    worker.desk.limit = 0
    big = b"x" * (BATCH_BYTES // 2)
    for offset in range(ROOM_BYTES // len(big)):
        assert not worker.lane.full
        worker.lane.add(1, offset, [Record(offset, big)])
    assert worker.lane.full
    worker.desk.limit = 100
    worker.lane.nudge()
    await worker.rest()
    assert set(worker.committed.transactions) == {2}
    assert worker.lane.pending.bytes == 0
    assert not worker.lane.full
    worker.lane.add(1, 99, [Record(99, None)])
    await worker.rest()
    await worker.stop()


async def test_a_lane_is_full_by_records_too():
    worker = await Worker(list(range(30)), room_max=10).start()
    worker.desk.limit = 0
    worker.fetch(9)
    assert not worker.lane.full
    worker.fetch(1)
    assert worker.lane.full
    await worker.stop()


async def test_a_limit_is_kept_and_waited_for():
    worker = await Worker(list(range(9))).start()
    worker.desk.limit = 0
    worker.fetch(9)
    await worker.rest()
    assert worker.committed.routed == []
    worker.desk.limit = 2
    worker.lanes.nudge(ODD)
    await worker.rest()
    assert worker.committed.routed == []
    worker.lanes.nudge(TOPIC)
    await worker.rest()
    assert worker.committed.routed == list(range(9))
    assert set(worker.committed.transactions) == {2, 1}
    await worker.stop()


async def test_what_a_transaction_takes_whatever_is_in_it_keeps_no_batch_small():
    worker = await Worker([]).start()
    lane = worker.lane
    lane._learn_pace(0.5, 1)
    assert lane._affordable() == 64, "one record says nothing of many"
    for _ in range(20):
        lane._learn_pace(0.08 + 1e-4 * lane._affordable(), lane._affordable())
    assert lane._affordable() > 1000
    for _ in range(40):  # an embedder that takes 50 ms a text
        lane._learn_pace(0.05 + 0.05 * lane._affordable(), lane._affordable())
    assert lane._affordable() == pytest.approx(20, abs=4)
    await worker.stop()


async def test_a_restless_desk_steps_without_records_when_it_is_nudged():
    worker = await Worker([]).start()
    worker.desk.restless = True
    await worker.rest()
    assert worker.committed.transactions == []
    worker.lanes.nudge(TOPIC)
    await worker.rest()
    assert worker.committed.transactions == [0]
    await worker.stop()


# --- what gets lost -----------------------------------------------------------------------------------------


async def test_a_lost_batch_is_a_hole_and_is_fetched_again():
    worker = await Worker(list(range(12))).start()
    worker.fetch(3)
    worker.fetch(3, lost=True)
    worker.fetch(3)
    await worker.rest()
    assert worker.committed.routed == [0, 1, 2]
    assert worker.lanes.events["hole"] == 1
    await worker.finish()
    assert worker.committed.routed == list(range(12))
    await worker.stop()


async def test_a_lost_last_batch_is_missed_at_the_second_look():
    worker = await Worker(list(range(6))).start()
    worker.fetch(3)
    worker.fetch(3, lost=True)
    await worker.rest()
    looks = []
    for _ in range(2):
        worker.lanes.watch(lambda topic, partition: worker.cursor)
        looks.append(worker.lane.send_back)
    assert looks == [False, True]
    assert worker.lanes.events["tail"] == 1
    await worker.finish()
    assert worker.committed.routed == list(range(6))
    await worker.stop()


async def test_a_partition_that_was_never_positioned_is():
    worker = await Worker(list(range(3))).start()
    for _ in range(2):
        worker.lanes.watch(lambda topic, partition: None)
    assert worker.lane.send_back
    await worker.stop()


async def test_an_idle_lane_at_its_end_is_left_alone():
    worker = await Worker(list(range(3))).start()
    worker.fetch(3)
    await worker.rest()
    for _ in range(3):
        worker.lanes.watch(lambda topic, partition: worker.cursor)
    assert not worker.lane.send_back
    await worker.stop()


async def test_batches_of_before_a_rebalance_are_dropped():
    worker = await Worker(list(range(6))).start()
    worker.desk.limit = 0
    worker.fetch(3)
    worker.generation = 2
    worker.desk.limit = 9
    worker.lane.nudge()
    await worker.rest()
    assert worker.committed.routed == []
    worker.cursor = 0
    await worker.finish()
    assert worker.committed.routed == list(range(6))
    await worker.stop()


async def test_records_that_were_decided_are_passed_over():
    worker = await Worker(list(range(6))).start()
    worker.fetch(6)
    await worker.rest()
    worker.cursor = 2
    worker.fetch(4)
    await worker.rest()
    assert worker.committed.routed == list(range(6))
    await worker.stop()


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["before", "after"])
async def test_after_a_kafka_error_the_ledger_says_where_to_go_on(failure):
    worker = await Worker(list(range(9))).start()
    worker.desk.failures = [failure]
    worker.fetch(9)
    await worker.rest()
    assert worker.desk.calls[:4] == ["open", "step", "close", "open"]
    assert worker.lanes.events["reload"] == 1
    await worker.finish()
    assert worker.committed.routed == list(range(9))
    await worker.stop()


async def test_opening_is_tried_again():
    worker = Worker(list(range(3)))
    worker.desk.failures = ["open", "open"]
    await worker.start()
    await worker.finish()
    assert worker.desk.calls[:3] == ["open", "open", "open"]
    assert worker.committed.routed == [0, 1, 2]
    await worker.stop()


async def test_a_desk_that_raises_anything_else_crashes_the_worker_with_its_reason():
    worker = await Worker(list(range(3))).start()
    reason = ValueError("a fault of the program")
    worker.desk.failures = [reason]
    worker.fetch(3)
    await worker.rest()
    assert worker.crashes == [reason]
    assert worker.committed.routed == []


# --- warm-up ------------------------------------------------------------------------------------------------


async def test_after_warm_up_the_lane_goes_back_and_routes_what_it_passed_over():
    worker = Worker(list(range(12)))
    worker.desk.learned = False
    await worker.start()
    worker.fetch(5)
    await worker.rest()
    worker.fetch(2)
    await worker.rest()
    assert (worker.committed.next, worker.committed.sampled) == (0, 7)
    worker.desk.learned = True
    worker.lanes.nudge(TOPIC)
    await worker.rest()
    assert worker.lane.send_back
    await worker.finish()
    assert worker.committed.routed == list(range(12))
    assert worker.committed.samples == list(range(7)), "none is sent twice"
    await worker.stop()


async def test_batches_under_way_when_warm_up_ends_do_not_pass_for_the_next_ones():
    worker = Worker(list(range(12)))
    worker.desk.learned = False
    await worker.start()
    worker.fetch(5)
    await worker.rest()
    worker.desk.learned = True
    worker.lane.add(1, worker.cursor, [Record(5), Record(6)])
    await worker.rest()
    assert worker.committed.routed == []
    await worker.finish()
    assert worker.committed.routed == list(range(12))
    await worker.stop()


# --- partitions move ----------------------------------------------------------------------------------------


async def test_a_lost_partition_is_let_go_and_what_waits_is_forgotten():
    worker = await Worker(list(range(6))).start()
    worker.desk.limit = 0
    worker.fetch(3)
    await worker.lanes.quiesce()
    await worker.lanes.assign(set(), set())
    worker.lanes.go()
    worker.lane.add(1, 3, [Record(3)])
    worker.desk.limit = 9
    await worker.rest()
    assert worker.desk.calls == ["open", "close"]
    assert not worker.lane.pending
    assert worker.committed.routed == []
    assert worker.lanes[TOPIC] == []
    assert worker.lanes.positions([(TOPIC, 0)]) == {}
    await worker.stop()


async def test_a_partition_that_comes_anew_is_fenced_and_read_again():
    worker = await Worker(list(range(6))).start()
    worker.committed.next = 2  # another owner decided these meanwhile
    await worker.rebalance(lost=True)
    assert worker.desk.calls == ["open", "close", "open"]
    await worker.finish()
    assert worker.committed.routed == [2, 3, 4, 5]
    await worker.stop()


async def test_nothing_is_begun_while_partitions_move():
    worker = await Worker(list(range(6))).start()
    await worker.lanes.quiesce()
    worker.fetch(3)
    worker.lanes.nudge(TOPIC)
    worker.lanes.watch(lambda topic, partition: worker.cursor)
    await worker.rest()
    assert worker.desk.calls == ["open"]
    worker.lanes.go()
    await worker.rest()
    assert worker.committed.routed == [0, 1, 2]
    await worker.stop()


async def test_moving_waits_for_a_transaction_in_flight():
    held = Held()
    worker = Worker(list(range(6)), held)
    starting = asyncio.ensure_future(worker.start())
    await worker.rest()
    held.release()
    await starting
    worker.fetch(3)
    await worker.rest()
    quiescing = asyncio.ensure_future(worker.lanes.quiesce())
    await worker.rest()
    assert not quiescing.done()
    held.release()
    await quiescing
    assert worker.committed.routed == [0, 1, 2]
    stopping = asyncio.ensure_future(worker.stop())
    await worker.rest()
    held.release()
    await stopping
    assert worker.desk.calls[-1] == "close"


async def test_a_worker_that_leaves_finishes_its_transaction_and_begins_no_other():
    """What SIGTERM does."""
    held = Held()
    worker = Worker(list(range(6)), held)
    starting = asyncio.ensure_future(worker.start())
    await worker.rest()
    held.release()
    await starting
    worker.fetch(2)
    await worker.rest()
    worker.fetch(2)
    leaving = asyncio.ensure_future(worker.lanes.leave())
    await worker.rest()
    assert worker.desk.calls == ["open"], "the transaction waits for its thread"
    while not leaving.done():
        held.release()
        await worker.rest()
    assert worker.committed.routed == [0, 1]
    assert worker.desk.calls == ["open", "step", "close"]
    assert worker.crashes == []


async def test_lanes_of_a_worker_that_leaves_are_let_go_at_once():
    held = Held()
    worker = Worker([], held)
    places = {(TOPIC, partition) for partition in range(3)}
    starting = asyncio.ensure_future(worker.lanes.assign(places, places))
    await worker.rest()
    held.release()
    await starting
    leaving = asyncio.ensure_future(worker.lanes.leave())
    await worker.rest()
    assert len(held.held) == 3, "none waits for another"
    held.release()
    await leaving
    assert worker.desk.calls == ["open"] * 3 + ["close"] * 3


# --- all of it ----------------------------------------------------------------------------------------------

happenings = st.lists(
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


@given(happenings, st.booleans(), st.lists(st.integers(1, 3), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_every_record_once_and_in_order_whatever_happens(events, learned, gaps):
    offsets = [sum(gaps[: i + 1]) - 1 for i in range(len(gaps))]

    async def play() -> Committed:
        worker = Worker(offsets)
        worker.desk.learned = learned
        await worker.start()
        for name, number, flag in events:
            if name == "fetch":
                worker.fetch(number, lost=flag)
            elif name == "rest":
                await worker.rest()
            elif name == "rebalance":
                await worker.rebalance(lost=bool(number), seeks=flag)
            elif name == "fail":
                worker.desk.failures.append(("before", "after", "open")[number])
            elif name == "watch":
                worker.lanes.watch(lambda topic, partition: worker.cursor)
            elif name == "learn":
                worker.desk.learned = True
                worker.lanes.nudge(TOPIC)
            else:
                # the consumer goes on from an old position, with or without its lane's knowledge
                worker.cursor = min(worker.cursor, number)
        worker.desk.learned = True
        worker.lanes.nudge(TOPIC)
        await worker.finish()
        assert worker.crashes == []
        await worker.stop()
        return worker.committed

    committed = asyncio.run(play())
    assert committed.routed == offsets
    assert committed.samples == offsets[: len(committed.samples)]


@pytest.mark.parametrize(
    ("took", "options", "rests"),
    [
        (0.04, {"rest": 0.5}, [pytest.approx(0.02)]),
        (9.0, {"rest": 0.5}, [pytest.approx(REST_SECONDS)]),
        (0.04, {"rest": 0.5, "transaction_seconds": 0.1}, [pytest.approx(0.1)]),
        (0.04, {"rest": 0.5, "batch_max": 2}, []),
    ],
)
async def test_a_lane_rests_after_a_transaction_unless_the_next_is_full(monkeypatch, took, options, rests):
    now, rested, sleep = [100.0], [], asyncio.sleep

    async def rest(seconds: float) -> None:
        if seconds:
            rested.append(seconds)
        await sleep(0)

    worker = await Worker(list(range(4)), **options).start()
    monkeypatch.setattr(lanes_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(asyncio, "sleep", rest)
    step = worker.desk.step

    def slow(records: list[Record]) -> None:
        now[0] += took
        step(records)

    worker.desk.step = slow
    for _ in range(2):
        worker.fetch(2)
        await worker.rest()
    assert worker.committed.routed == [0, 1, 2, 3]
    assert rested == rests
    monkeypatch.undo()
    await worker.stop()
