"""Lanes: one task a partition, which runs one fenced transaction after the other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaException

from streams.backlog import Backlog, Record, Stretch

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
QUIESCE_SECONDS = 3.0
STEP_SECONDS = 1.0
"""A batch is made no larger than what is expected to take so long, so that a slow embedder can be stopped."""

LEAST_BATCH = 16

OVERHEAD_SECONDS = 0.05
"""Of a transaction whatever is in it. Held against its records, it would keep small batches small: a lane
that began with one query on a busy machine came to a few dozen a second."""

REST, REST_SECONDS = 0.5, 0.05
"""A lane rests between transactions that are not full: this share of what the last took, and so long at most.

What comes meanwhile shares a transaction. Without rest, lanes on a busy machine commit few queries at a time
as often as its cores allow, and each waits for all the others."""

ROOM_BYTES = 64 * 2**20
"""Waiting bytes at which fetching stops for a lane, however few queries they are."""


class Desk(Protocol):
    """What a lane does with its records. All but the properties is called in a thread, one call at a time."""

    def open(self) -> None:
        """Fence former owners, then read what they committed."""
        ...

    def look(self) -> None:
        """Take up the newest plan; `position`, `limit` and `step` hold to it until the next look."""
        ...

    @property
    def position(self) -> int:
        """Offset of the next record that the desk has to see."""
        ...

    @property
    def limit(self) -> int:
        """Records that it may take now; 0 while it waits for a plan."""
        ...

    @property
    def restless(self) -> bool:
        """It has something to do without records."""
        ...

    def step(self, records: list[Record]) -> None:
        """Take in records, none of which has been seen, in one transaction."""
        ...

    def close(self) -> None:
        """Give up an open transaction and let go."""
        ...


class Lane:
    """The queue of one partition and the task that empties it.

    Parameters
    ----------
    house : Lanes
    topic, partition
        Where its records come from.
    desk : Desk
    """

    def __init__(self, house: Lanes, topic: str, partition: int, desk: Desk) -> None:
        self.house, self.topic, self.partition, self.desk = house, topic, partition, desk
        self.pending = Backlog()
        self.wake = asyncio.Event()
        self.open = self.busy = self.send_back = self.assigned = False
        self.attention = False
        self.lock = asyncio.Lock()
        self.progress = time.monotonic()
        self.seen: tuple[int | None, int] | None = None
        self._pace = 0.0
        self._last_step = self._took = 0.0
        self.task = asyncio.create_task(self._run(), name=f"lane-{topic}-{partition}")
        self.task.add_done_callback(self._ended)

    def add(self, generation: int, begin: int, records: list[Record]) -> None:
        """Queue a batch of one fetch, which began at offset `begin`."""
        self.pending.add(Stretch(generation, begin, records))
        self.wake.set()

    def nudge(self) -> None:
        """Look whether there is something to do besides records."""
        self.attention = True
        self.wake.set()

    def clear(self) -> None:
        """Forget what is queued; it will be fetched again."""
        self.pending.clear()

    @property
    def full(self) -> bool:
        """As much waits as there is room for: no more is fetched."""
        return len(self.pending) >= self.house.room_max or self.pending.bytes >= ROOM_BYTES

    async def _run(self) -> None:
        while True:
            await self.wake.wait()
            await self.house.gate.wait()
            self.wake.clear()
            while self.house.gate.is_set() and await self._work():
                self.progress = time.monotonic()

    async def _work(self) -> bool:
        """One step if there is one to do."""
        if not self.assigned:
            self.clear()
            return False
        if not await self._opened():
            return True
        attention, self.attention = self.attention, False
        position = self.desk.position
        self.desk.look()
        if self.desk.position < position:
            # warm-up is over: what was passed over is routed now
            self.clear()
            self.send_back = True
        most = min(self.desk.limit, self.house.batch_max, self._affordable())
        if self.pending and most > 0:
            await self._pause(len(self.pending) >= most)
            if not self.pending:
                return True
            return await self._step(self.pending.take(most))
        if attention and self.desk.restless:
            return await self._step(Stretch(self.house.generation(), self.desk.position, []))
        return False

    def _affordable(self) -> int:
        return max(LEAST_BATCH, int(STEP_SECONDS / self._pace)) if self._pace > 0 else 64

    async def _pause(self, full: bool) -> None:
        """Keep the least time between two transactions that are not full."""
        rest = min(self.house.rest * self._took, REST_SECONDS)
        wait = self._last_step + max(self.house.transaction_seconds, rest) - time.monotonic()
        if wait > 0 and not full:
            await asyncio.sleep(wait)

    async def _opened(self) -> bool:
        async with self.lock:
            return self.open or await self._open()

    async def _open(self) -> bool:
        self.busy = True
        try:
            await self.house.call(self.desk.open)
            self.open = self.send_back = self.attention = True
        except KafkaException as error:
            self.house.events["not_opened"] += 1
            log.error("lane_not_opened", topic=self.topic, partition=self.partition, reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            self.busy = False
        return self.open

    async def let_go(self) -> None:
        """Close the desk; what is queued for it will be fetched again."""
        async with self.lock:
            if self.open:
                self.open = False
                self.clear()
                await self.house.call(self.desk.close)

    async def _step(self, stretch: Stretch) -> bool:
        async with self.lock:
            return not self.open or await self._locked_step(stretch)

    async def _locked_step(self, stretch: Stretch) -> bool:
        if stretch.generation != self.house.generation():
            return True  # of before a rebalance: it comes again
        if stretch.records and stretch.begin > self.desk.position:
            self.house.events["hole"] += 1
            log.warning(
                "hole",
                topic=self.topic,
                partition=self.partition,
                begin=stretch.begin,
                next=self.desk.position,
            )
            self.clear()
            self.send_back = True
            return True
        position = self.desk.position
        records = stretch.records
        if records and records[0].offset < position:
            records = [record for record in records if record.offset >= position]
            if not records:
                return True  # decided and charged already
        began = time.monotonic()
        self.busy = True
        try:
            await self.house.call(self.desk.step, records)
            self._learn_pace(time.monotonic() - began, len(records))
        except KafkaException as error:
            # fenced, timed out, broker gone: the log says what was committed
            self.house.events["reload"] += 1
            log.error("lane_reloads", topic=self.topic, partition=self.partition, reason=str(error)[:300])
            await self._reload()
        finally:
            self.busy = False
            self._last_step = time.monotonic()
            self._took = self._last_step - began
            self.house.room.set()
        return True

    def _learn_pace(self, seconds: float, count: int) -> None:
        if count >= LEAST_BATCH:
            pace = max(seconds - OVERHEAD_SECONDS, 1e-6) / count
            self._pace = pace if self._pace == 0 else 0.7 * self._pace + 0.3 * pace

    async def _reload(self) -> None:
        self.open = False
        self.clear()
        await self.house.call(self.desk.close)
        await asyncio.sleep(RETRY_SECONDS)
        self.attention = True
        self.wake.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "lane_died", topic=self.topic, partition=self.partition, reason=repr(error), exc_info=error
            )
            self.house.crash(error)


class Lanes:
    """All lanes of a worker, and the gate that closes them while partitions move.

    Parameters
    ----------
    desk_for : callable
        Makes the desk of a topic's partition.
    executor : Executor
        Where desks work.
    generation : callable
        The consumer group's current generation.
    crash : callable
        Stops the worker with an error: a lane never dies in silence.
    batch_max, room_max : int
        Records in a transaction, and waiting records at which fetching stops for a lane.
    transaction_seconds : float
        Least time between two transactions of a lane that are not full.
    rest : float
        The same as a share of what the last one took, `REST_SECONDS` at most.
    """

    def __init__(
        self,
        desk_for: Callable[[str, int], Desk],
        topics: Iterable[str],
        executor: Executor,
        generation: Callable[[], int],
        crash: Callable[[BaseException], None],
        *,
        batch_max: int,
        room_max: int,
        transaction_seconds: float,
        rest: float = REST,
    ) -> None:
        self.topics = frozenset(topics)
        self.generation, self.crash = generation, crash
        self.batch_max, self.room_max = batch_max, room_max
        self.transaction_seconds, self.rest = transaction_seconds, rest
        self.gate, self.room = asyncio.Event(), asyncio.Event()
        self.all: dict[tuple[str, int], Lane] = {}
        self.events: Counter[str] = Counter()
        """What went wrong and was mended: holes, lost tails, reloads, openings that failed (metrics)."""
        self._desk_for, self._executor = desk_for, executor

    def call(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Run in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def lane(self, topic: str, partition: int) -> Lane:
        """The lane of a partition, made when it is first asked for."""
        key = (topic, partition)
        if key not in self.all:
            self.all[key] = Lane(self, topic, partition, self._desk_for(topic, partition))
        return self.all[key]

    def __getitem__(self, topic: str) -> list[Lane]:
        """The lanes of a topic that this worker owns."""
        return [lane for (name, _), lane in self.all.items() if name == topic and lane.assigned]

    async def assign(self, assigned: set[tuple[str, int]], new: set[tuple[str, int]]) -> None:
        """Open what this worker now owns and let go of what it lost; `go` opens the gate."""
        mine = {tp for tp in assigned if tp[0] in self.topics}
        for key, lane in list(self.all.items()):
            lane.clear()
            lane.assigned = key in mine
            if key not in mine or key in new:
                await lane.let_go()
        opening = [self.lane(*tp) for tp in sorted(mine)]
        for lane in opening:
            lane.assigned = True
        await asyncio.gather(*(lane._opened() for lane in opening if not lane.open))
        log.info("lanes_assigned", lanes=sorted(f"{topic}:{number}" for topic, number in mine))

    def go(self) -> None:
        """Open the gate. Not before Faust is done with its recovery: what lanes write it would wait for."""
        self.gate.set()
        for lane in self.all.values():
            lane.nudge()

    async def quiesce(self) -> None:
        """Close the gate and wait for batches in flight: a worker that joins must not fence them."""
        self.gate.clear()
        for lane in self.all.values():
            lane.clear()
        deadline = time.monotonic() + QUIESCE_SECONDS
        while any(lane.busy for lane in self.all.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    async def leave(self) -> None:
        """Finish, and let go of everything: the next owner need not wait for an open transaction."""
        await self.quiesce()
        # all at once: while a broker is away, each may take seconds
        await asyncio.gather(*(lane.let_go() for lane in self.all.values()))
        for lane in self.all.values():
            lane.task.cancel()

    def positions(self, tps: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Where partitions go on, for those whose lane is open."""
        return {
            tp: lane.desk.position
            for tp in tps
            if (lane := self.all.get((tp[0], tp[1]))) is not None and lane.open
        }

    def nudge(self, *topics: str) -> None:
        """Make lanes look up: a plan came, or time passed."""
        for lane in self.all.values():
            if lane.topic in topics:
                lane.nudge()

    def watch(self, cursor: Callable[[str, int], int | None]) -> None:
        """Send back idle lanes that were read past their position: the last batch before a pause got lost.

        To be called every second or so; two looks in a row must see the same.
        """
        if not self.gate.is_set():
            return
        for lane in self.all.values():
            if not (lane.open and lane.assigned):
                continue
            state = (cursor(lane.topic, lane.partition), lane.desk.position)
            idle = not lane.pending and not lane.busy
            if idle and (state[0] is None or state[0] > state[1]) and state == lane.seen:
                self.events["tail"] += 1
                log.warning(
                    "tail", topic=lane.topic, partition=lane.partition, cursor=state[0], next=state[1]
                )
                lane.send_back = True
            lane.seen = state
