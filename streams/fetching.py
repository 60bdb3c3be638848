"""How batches come out of Faust's consumer: a whole fetch of a partition is one event.

Overrides of Faust's aiokafka driver, each as small as it can be. Seeks and fetches happen in the consumer's
own thread, one after the other, so they cannot interleave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.fetch_pace import QUIET_WAIT_MS, FetchPace
from streams.lanes import Lanes
from streams.odd_records import read_all_names

POLL_SECONDS = 0.1
"""Longest wait of one fetch, and so for a lane that has to be sent back."""


class Batch(ConsumerMessage):
    """All records of one partition out of one fetch; to Faust it is one message, the last of them."""

    __slots__ = ("begin", "records")

    def __init__(self, tp: TP, begin: int, records: list[Any], generation: int) -> None:
        last = records[-1]
        super().__init__(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000, last.timestamp_type,
            None, None, None, None, tp=tp, generation_id=generation,
        )  # fmt: skip
        self.begin, self.records = begin, records


class BatchTopic(faust.Topic):
    """A topic whose events are batches; what is in them is decoded by the desks, so no error gets lost."""

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self.app.create_event(None, message, None, message)

        self.decode = decode  # type: ignore[method-assign]


class BatchThread(driver.AIOKafkaConsumerThread):
    """Fetches and positions; knows where the next batch of each partition begins."""

    app: RouterApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor: dict[tuple[str, int], int] = {}
        """Absent: the partition was not positioned by its ledger since it was assigned."""
        self.pace = FetchPace()
        read_all_names()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # what an aborted transaction left behind is not a query
        consumer._isolation_level = "read_committed"
        # a broker answers the requests of a connection in turn: behind a fetch that finds nothing, what a
        # rebalance asks for waits as long as the fetch, which for Faust are 1.5 s, more than once
        consumer._fetch_max_wait_ms = QUIET_WAIT_MS
        return consumer

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        found: dict[Any, Any] = dict(await super()._fetch_records(*args, **kwargs))
        self.pace.count(sum(map(len, found.values())))
        fetcher = self._ensure_consumer()._fetcher
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = self.pace.least_bytes, self.pace.wait_ms
        lanes = self.app.lanes
        for tp in [tp for tp in found if tp.topic in lanes.topics]:
            records, begin = found.pop(tp), self.cursor.get(tp)
            if begin is not None and not self.app.loses(tp):
                found[tp] = [Batch(TP(*tp), begin, records, self.app.consumer_generation_id)]
            if begin is not None:
                self.cursor[tp] = records[-1].offset + 1
        return found

    async def start_at(self, offsets: Mapping[Any, int]) -> None:
        """Go on from these offsets, for partitions that are still assigned."""
        consumer = self._ensure_consumer()
        for tp in offsets.keys() & consumer.assignment():
            consumer.seek(tp, offsets[tp])
            self.cursor[tp] = offsets[tp]

    async def _seek_to_committed(self) -> Mapping[Any, int]:
        consumer = self._ensure_consumer()
        mine = self.app.lanes.positions(consumer.assignment())
        # changelogs are paused and nobody reads them here: the group's offsets need not be asked for, which
        # takes long while its coordinator moves
        others = {
            tp: 0 for tp in consumer.assignment() - mine.keys() if tp.topic not in self.app.lanes.topics
        }
        for tp in others:
            consumer.seek(tp, 0)
        await self.start_at(mine)
        return {**others, **mine}

    async def seek_to_committed(self) -> Any:
        """Where the ledger says, for the lanes; Faust calls it after a rebalance."""
        return await self.call_thread(self._seek_to_committed)

    async def on_thread_stop(self) -> None:
        """Close the consumer.

        While a broker is away, aiokafka cancels fetches that wait to be tried again, and lets that come up
        here. It would end the thread before it is told to be over, which is waited for a minute.
        """
        with contextlib.suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """No partition is positioned any more."""
        self.cursor.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """No partition is positioned yet."""
        self.cursor.clear()
        await super().on_partitions_assigned(assigned, generation_id)


class BatchConsumer(driver.Consumer):
    """Hands batches on and keeps them out of Faust's bookkeeping by offset."""

    app: RouterApp
    _thread: BatchThread

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return record if isinstance(record, Batch) else super()._to_message(tp, record)

    async def getmany(self, timeout: float) -> AsyncIterator[Any]:
        """Batches go to the conductor at once; other messages go Faust's way."""
        async for tp, message in super().getmany(timeout):
            if isinstance(message, Batch):
                await self.wait_first(self.callback(message), self.suspend_flow.wait())
            else:
                yield tp, message

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Send lanes back that have to be, and leave out those that are full: no other waits for them."""
        lanes = self.app.lanes
        await self._send_back(lanes)
        active = set(active_partitions or ())
        full = {tp for tp in active if tp.topic in lanes.topics and self._is_full(lanes, tp)}
        if not full:
            return await super()._getmany(active_partitions, min(timeout, POLL_SECONDS))
        if len(full) < len(active):
            return await super()._getmany(active - full, 0.02)
        lanes.room.clear()
        await self.wait(lanes.room.wait(), timeout=POLL_SECONDS)
        return {}

    async def on_stop(self) -> None:
        """Nothing: lanes are closed, so there are no offsets to commit any more.

        Faust would wait for a commit that is under way, and while the group's coordinator is away that asks
        for it for ever.
        """

    @staticmethod
    def _is_full(lanes: Lanes, tp: TP) -> bool:
        lane = lanes.all.get((tp.topic, tp.partition))
        return lane is not None and lane.full

    async def _send_back(self, lanes: Lanes) -> None:
        back = {}
        for (topic, partition), lane in lanes.all.items():
            if lane.send_back and lane.open and lane.assigned:
                lane.send_back = False
                lane.clear()
                back[driver.TopicPartition(topic, partition)] = lane.desk.position
        if back:
            await self._thread.call_thread(self._thread.start_at, back)

    def _filter_committable_offsets(self, tps: Any) -> dict[TP, int]:
        """The group's offsets follow the ledger, for lag monitors; never during a rebalance.

        A commit of an old generation would make aiokafka rejoin, in chains.
        """
        lanes = self.app.lanes
        if self.app.rebalancing or not lanes.gate.is_set():
            return {}
        ours = {TP(*tp): offset for tp, offset in lanes.positions(lanes.all).items()}
        return {
            **super()._filter_committable_offsets(tps),
            **{tp: offset for tp, offset in ours.items() if offset and self._should_commit(tp, offset)},
        }


class Transport(driver.Transport):
    """The aiokafka transport with our consumer."""

    Consumer = BatchConsumer


class RouterApp(faust.App):
    """A Faust app whose consumer feeds lanes."""

    lanes: Lanes

    def _new_transport(self) -> Any:
        return Transport(self.conf.broker_consumer, self)

    def loses(self, tp: Any) -> bool:
        """Whether a batch of this partition gets lost here: never, but a test can say otherwise."""
        return False

    def cursor(self, topic: str, partition: int) -> int | None:
        """Where the next batch of a partition begins."""
        thread = getattr(self.consumer, "_thread", None)
        return None if thread is None else thread.cursor.get(TP(topic, partition))
