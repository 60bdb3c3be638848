"""Lanes: one task per partition, which runs one fenced transaction after the other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

import structlog
from confluent_kafka import KafkaException

from streams.lanes.backlog import (
    Backlog,
    RecordRun,
)
from streams.lanes.batch_pace import BatchPace
from streams.lanes.processor import LaneProcessor
from streams.lanes.thread_slots import ThreadSlots
from streams.messages.record import (
    Record,
)

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
DRAIN_SECONDS = 3.0
REST_SHARE, REST_SECONDS = 0.5, 0.05
"""Pause between transactions that are not full: a share of the last one's time, and its maximum in seconds.

Queries that arrive during the pause share a transaction. Without it, the lanes of a busy machine would commit
a few queries at a time and wait for each other."""

MAX_WAITING_BYTES = 64 * 2**20
"""Queued bytes at which fetching for a lane pauses, however few queries they are."""


class Lane:
    """The queue of one partition and the task that processes it.

    Parameters
    ----------
    lanes : Lanes
    topic, partition
        Where its records come from.
    processor : LaneProcessor
    """

    def __init__(self, lanes: Lanes, topic: str, partition: int, processor: LaneProcessor[object]) -> None:
        self.lanes, self.topic, self.partition, self.processor = lanes, topic, partition, processor
        self.pending = Backlog()
        self.wake_event = asyncio.Event()
        self.open = self.busy = self.assigned = False
        self.needs_seek = False
        """The consumer must seek to the processor's next offset before it fetches again."""
        self.attention = False
        """The lane was woken: ask the processor for work that needs no records."""
        self.log_start: int | None = None
        """First offset of the log, if the lane's next offset was deleted; otherwise None."""
        self.lock = asyncio.Lock()
        self.progress = time.monotonic()
        self.last_positions: tuple[int | None, int] | None = None
        """Cursor and next offset when `Lanes.detect_lost_tail` was last called."""
        self._pace = BatchPace()
        self._last_ended = self._last_seconds = 0.0
        self.task = asyncio.create_task(self._run(), name=f"lane-{topic}-{partition}")
        self.task.add_done_callback(self._task_ended)

    def append(self, generation: int, begin: int, records: list[Record]) -> None:
        """Append the records of one fetch, which began at offset `begin`."""
        self.pending.append(RecordRun(generation, begin, records))
        self.wake_event.set()

    def wake(self) -> None:
        """Check for work, even without records."""
        self.attention = True
        self.wake_event.set()

    def clear(self) -> None:
        """Drop queued records. They will be fetched again."""
        self.pending.clear()

    @property
    def full(self) -> bool:
        """True if fetching for this lane pauses."""
        return len(self.pending) >= self.lanes.max_waiting or self.pending.bytes >= MAX_WAITING_BYTES

    async def _run(self) -> None:
        while True:
            await self.wake_event.wait()
            await self.lanes.gate.wait()
            self.wake_event.clear()
            while self.lanes.gate.is_set() and await self._process_next():
                self.progress = time.monotonic()

    async def _process_next(self) -> bool:
        """Run one transaction if there is work; return False if there is none."""
        if not self.assigned or self.lanes.halted:
            self.clear()
            return False
        if not await self._ensure_open():
            return True
        if self.log_start is not None:
            start, self.log_start = self.log_start, None
            return await self._skip(start)
        attention, self.attention = self.attention, False
        next_offset = self.processor.next_offset
        self.processor.refresh_plan()
        if self.processor.next_offset < next_offset:
            # warm-up is over: route the queries that were only sampled
            self.clear()
            self.needs_seek = True
        max_records = min(self.processor.max_records, self.lanes.batch_max, self._pace.max_records)
        if self.pending and max_records > 0:
            await self._pause(len(self.pending) >= max_records)
            if not self.pending:
                return True
            return await self._process(self.pending.pop(max_records))
        if attention and self.processor.has_pending_work:
            return await self._process(RecordRun(self.lanes.generation(), self.processor.next_offset, []))
        return False

    async def _pause(self, full: bool) -> None:
        """Wait for the minimum interval between two transactions, unless the next one is full."""
        idle = min(self.lanes.rest * self._last_seconds, REST_SECONDS)
        wait = self._last_ended + max(self.lanes.transaction_seconds, idle) - time.monotonic()
        if wait > 0 and not full:
            await asyncio.sleep(wait)

    async def _ensure_open(self) -> bool:
        async with self.lock:
            return self.open or await self._open()

    async def _open(self) -> bool:
        self.busy = True
        try:
            await self.lanes.call(self.processor.open)
            self.open = self.needs_seek = self.attention = True
        except KafkaException as error:
            self.lanes.events["not_opened"] += 1
            log.error("lane_not_opened", topic=self.topic, partition=self.partition, reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            self.busy = False
        return self.open

    async def close_processor(self) -> None:
        """Close the processor and drop queued records. They will be fetched again."""
        async with self.lock:
            if self.open:
                self.open = False
                self.clear()
                await self.lanes.call(self.processor.close)

    async def _process(self, run: RecordRun) -> bool:
        async with self.lock:
            return not self.open or await self._locked_process(run)

    async def _skip(self, start: int) -> bool:
        async with self.lock:
            return not self.open or await self._locked_call(self.processor.skip_deleted, start)

    async def _locked_process(self, run: RecordRun) -> bool:
        if run.generation != self.lanes.generation():
            return True  # fetched before a rebalance; it will be fetched again
        if run.records and run.begin > self.processor.next_offset:
            self.lanes.events["hole"] += 1
            log.warning(
                "hole",
                topic=self.topic,
                partition=self.partition,
                begin=run.begin,
                next=self.processor.next_offset,
            )
            self.clear()
            self.needs_seek = True
            return True
        next_offset = self.processor.next_offset
        records = run.records
        if records and records[0].offset < next_offset:
            records = [record for record in records if record.offset >= next_offset]
            if not records:
                return True  # committed by an earlier transaction
        return await self._locked_call(self.processor.process, records)

    async def _locked_call(self, call: Callable[[Any], object], argument: Any) -> bool:
        began = time.monotonic()
        self.busy = True
        try:
            seconds = await self.lanes.call(self.lanes.slots.run, call, argument)
            if isinstance(argument, list):
                self._pace.record(seconds, len(argument))
        except KafkaException as error:
            # fenced, timed out or broker gone: read from the log what was committed
            self.lanes.events["reload"] += 1
            log.error("lane_reloads", topic=self.topic, partition=self.partition, reason=str(error)[:300])
            await self._reload()
        finally:
            self.busy = False
            self._last_ended = time.monotonic()
            self._last_seconds = self._last_ended - began
            self.lanes.room.set()
        return True

    async def _reload(self) -> None:
        self.open = False
        self.clear()
        await self.lanes.call(self.processor.close)
        await asyncio.sleep(RETRY_SECONDS)
        self.attention = True
        self.wake_event.set()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "lane_died", topic=self.topic, partition=self.partition, reason=repr(error), exc_info=error
            )
            self.lanes.crash(error)


class Lanes:
    """All lanes of a worker, and the gate that stops them during a rebalance.

    Parameters
    ----------
    make_processor : callable
        Makes the processor of a topic's partition.
    executor : Executor
        Runs the processors' methods.
    slots : ThreadSlots
        For processing records.
    generation : callable
        The consumer group's current generation.
    crash : callable
        Stops the worker with an error that ended a lane.
    batch_max, room_max : int
        Maximum records of a transaction, and queued records at which fetching for a lane pauses.
    transaction_seconds : float
        Minimum interval between two transactions of a lane, unless the next one is full.
    rest : float
        The same as a share of the last transaction's time, at most `REST_SECONDS`.
    partitions : mapping of str to int, optional
        Number of partitions of each topic that have a lane; all by default.
    """

    def __init__(
        self,
        make_processor: Callable[[str, int], LaneProcessor[object]],
        topics: Iterable[str],
        executor: Executor,
        slots: ThreadSlots,
        generation: Callable[[], int],
        crash: Callable[[BaseException], None],
        *,
        batch_max: int,
        room_max: int,
        transaction_seconds: float,
        rest: float = REST_SHARE,
        partitions: Mapping[str, int] | None = None,
    ) -> None:
        self.topics = frozenset(topics)
        self.generation, self.crash = generation, crash
        self.batch_max, self.max_waiting = batch_max, room_max
        self.transaction_seconds, self.rest = transaction_seconds, rest
        self.gate, self.room = asyncio.Event(), asyncio.Event()
        self.all: dict[tuple[str, int], Lane] = {}
        self.events: Counter[str] = Counter()
        """Number of recovered problems by kind, for metrics: hole, tail, reload, not_opened."""
        self.halted: str | None = None
        """Why all lanes are stopped until an operator acts; None while they run."""
        self.halted_by = ""
        """The check that stopped them: "topics" or "dead letters"."""
        self._make_processor, self._executor, self.slots = make_processor, executor, slots
        self._partitions = dict(partitions or {})

    def has_lane(self, topic: str, partition: int) -> bool:
        """Return True if a partition has a lane. Partitions added to a topic later have none."""
        return partition < self._partitions.get(topic, partition + 1)

    def halt(self, reason: str, check: str = "topics") -> None:
        """Stop all lanes, for a reason that only an operator can remove."""
        if self.halted is None:
            self.halted, self.halted_by = reason, check
            log.error("lanes_halted", reason=reason)

    def handle_deleted_offset(self, topic: str, partition: int, next_offset: int, start: int) -> None:
        """Continue a lane at the log's first offset; halt if the log ends before the lane's next offset."""
        if start < next_offset:
            self.halt(f"topic {topic}: partition {partition} was read to {next_offset}, and has ended before")
        elif (lane := self.all.get((topic, partition))) is not None:
            lane.log_start = start
            lane.wake()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Run a function in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def lane(self, topic: str, partition: int) -> Lane:
        """Return the lane of a partition; create it on first use."""
        key = (topic, partition)
        if key not in self.all:
            self.all[key] = Lane(self, topic, partition, self._make_processor(topic, partition))
        return self.all[key]

    def __getitem__(self, topic: str) -> list[Lane]:
        """Return the lanes of a topic that this worker owns."""
        return [lane for (name, _), lane in self.all.items() if name == topic and lane.assigned]

    async def assign(self, assigned: set[tuple[str, int]], new: set[tuple[str, int]]) -> None:
        """Open the lanes that this worker now owns and close the others; `resume` opens the gate."""
        owned = {tp for tp in assigned if tp[0] in self.topics and self.has_lane(*tp)}
        for key, lane in list(self.all.items()):
            lane.clear()
            lane.assigned = key in owned
            if key not in owned or key in new:
                await lane.close_processor()
        opening = [self.lane(*tp) for tp in sorted(owned)]
        for lane in opening:
            lane.assigned = True
        await asyncio.gather(*(lane._ensure_open() for lane in opening if not lane.open))
        log.info("lanes_assigned", lanes=sorted(f"{topic}:{number}" for topic, number in owned))

    def resume(self) -> None:
        """Open the gate.

        Call this after Faust's recovery, which would otherwise wait for the records that lanes write.
        """
        self.gate.set()
        for lane in self.all.values():
            lane.wake()

    async def drain(self) -> None:
        """Close the gate and wait for transactions in flight, so that no joining worker fences them."""
        self.gate.clear()
        for lane in self.all.values():
            lane.clear()
        deadline = time.monotonic() + DRAIN_SECONDS
        while any(lane.busy for lane in self.all.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    async def shutdown(self) -> None:
        """Finish transactions and close all lanes, so that the next owner need not wait for an open one."""
        await self.drain()
        # concurrently: while a broker is away, each may take seconds
        await asyncio.gather(*(lane.close_processor() for lane in self.all.values()))
        for lane in self.all.values():
            lane.task.cancel()

    def positions(self, tps: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the next offsets of partitions whose lane is open."""
        return {
            tp: lane.processor.next_offset
            for tp in tps
            if (lane := self.all.get((tp[0], tp[1]))) is not None and lane.open
        }

    def wake(self, *topics: str) -> None:
        """Wake all lanes of these topics, because a plan arrived or time passed."""
        for lane in self.all.values():
            if lane.topic in topics:
                lane.wake()

    def wake_lane(self, topic: str, partition: int) -> None:
        """Wake one lane, if this worker has it."""
        if (lane := self.all.get((topic, partition))) is not None:
            lane.wake()

    def detect_lost_tail(self, cursor: Callable[[str, int], int | None]) -> None:
        """Let the consumer seek for idle lanes that were read past their next offset.

        The last batch before a pause was lost then. Call this about every second: a lane counts only if two
        calls in a row see the same positions.
        """
        if not self.gate.is_set():
            return
        for lane in self.all.values():
            if not (lane.open and lane.assigned):
                continue
            cursor_offset = cursor(lane.topic, lane.partition)
            next_offset = lane.processor.next_offset
            positions = (cursor_offset, next_offset)
            is_past = cursor_offset is None or cursor_offset > next_offset
            is_idle = not lane.pending and not lane.busy
            if is_past and is_idle and positions == lane.last_positions:
                self.events["tail"] += 1
                log.warning(
                    "tail", topic=lane.topic, partition=lane.partition, cursor=cursor_offset, next=next_offset
                )
                lane.needs_seek = True
            lane.last_positions = positions
