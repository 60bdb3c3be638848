"""A consumer, a processor and executors for tests of lanes, without Kafka."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from streams.lanes.lanes import Lane, Lanes
from streams.lanes.thread_slots import ThreadSlots

TOPIC, OTHER_TOPIC = "queries", "other"


@dataclass
class Record:
    offset: int
    value: bytes | None = b"{}"
    topic: str = TOPIC
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple = ()


class InlineExecutor(Executor):
    """An executor that runs calls at once, without threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        done: Future = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class HeldExecutor(Executor):
    """An executor whose calls stay in flight until `release`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future, Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        self.calls.append((future, lambda: fn(*args, **kwargs)))
        return future

    def release(self) -> None:
        while self.calls:
            future, run = self.calls.pop(0)
            future.set_result(run())


@dataclass
class Committed:
    """Committed state of a partition: its ledger and its topics."""

    next: int = 0
    sampled: int = 0
    routed: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    transactions: list[int] = field(default_factory=list)


def kafka_error() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._FENCED, "fenced"))


class FakeProcessor:
    """A processor that commits to `Committed`, or fails before or after that."""

    def __init__(self, committed: Committed) -> None:
        self.committed = committed
        self.learned = True
        self.waiting = False
        self.max_records = 1 << 30
        self.has_pending_work = False
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

    def refresh_plan(self) -> None:
        self.waiting = not self.learned

    @property
    def next_offset(self) -> int:
        return max(self._seen.next, self._seen.sampled) if self.waiting else self._seen.next

    def process(self, records: list[Record]) -> None:
        self.calls.append("process")
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
    """The consumer of one partition, and the lanes that it feeds."""

    def __init__(self, offsets: list[int], executor: Executor | None = None, **options: Any) -> None:
        self.log = offsets
        self.committed = Committed()
        self.processor = FakeProcessor(self.committed)
        self.generation = 1
        self.crashes: list[BaseException] = []
        self.cursor = 0
        wiring = {"batch_max": 4, "room_max": 10, "transaction_seconds": 0.0, "rest": 0.0} | options
        self.lanes = Lanes(
            lambda topic, partition: self.processor,
            {TOPIC},
            executor or InlineExecutor(),
            ThreadSlots(2),
            lambda: self.generation,
            self.crashes.append,
            **wiring,
        )

    @property
    def lane(self) -> Lane:
        return self.lanes.lane(TOPIC, 0)

    async def start(self) -> "Worker":
        await self.lanes.assign({(TOPIC, 0)}, {(TOPIC, 0)})
        self.lanes.resume()
        await self.settle()
        self.seek()
        return self

    def seek(self) -> None:
        """Seek to the lane's next offset if it needs that, as the consumer does before a fetch."""
        if self.lane.needs_seek and self.lane.open and self.lane.assigned:
            self.lane.needs_seek = False
            self.lane.clear()
            self.cursor = self.lane.processor.next_offset

    def fetch(self, most: int, *, lost: bool = False) -> int:
        """Pass the next records to the lane, unless they are lost on the way; return their number."""
        self.seek()
        records = [Record(offset) for offset in self.log if offset >= self.cursor][:most]
        if records:
            begin, self.cursor = self.cursor, records[-1].offset + 1
            if not lost:
                self.lane.append(self.generation, begin, records)
        return len(records)

    async def settle(self) -> None:
        """Let all tasks run until they wait."""
        for _ in range(60):
            await asyncio.sleep(0)

    async def rebalance(self, *, lost: bool = False, seeks: bool = True) -> None:
        """Keep or reassign the partition; without `seeks`, the consumer continues at its old position."""
        await self.lanes.drain()
        self.generation += 1
        await self.lanes.assign({(TOPIC, 0)}, {(TOPIC, 0)} if lost else set())
        if seeks:
            # a lane that could not be opened has no position yet; it seeks once it is open
            self.cursor = self.lanes.positions([(TOPIC, 0)]).get((TOPIC, 0), self.cursor)
        self.lanes.resume()
        await self.settle()

    async def drain_log(self) -> None:
        """Fetch, and detect lost tails, until the whole log is committed."""
        for _ in range(300):
            fetched = self.fetch(3)
            await self.settle()
            if not fetched and self.committed.next > max(self.log, default=-1):
                return
            self.lanes.detect_lost_tail(lambda topic, partition: self.cursor)
        raise AssertionError(f"stuck at {self.committed.next}; calls {self.processor.calls[-9:]}")

    async def stop(self) -> None:
        await self.lanes.shutdown()
