"""The Faust app whose consumer passes whole fetches to lanes: one event per fetch and topic.

The classes override Faust's aiokafka driver as little as possible. Seeks and fetches happen in the consumer's
own thread, one after the other, so they cannot interleave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.config.log_throttling import RecurringProblem
from streams.lanes.aiokafka_patch import read_odd_fetches
from streams.lanes.fetch_tuning import QUIET_WAIT_MS, FetchPace
from streams.lanes.lanes import Lanes
from streams.lanes.offset_resets import pop_reset, position_of, record_resets
from streams.lanes.unreadable import UnreadablePartitions

POLL_SECONDS = 0.1
"""Longest wait of one fetch, and so the longest delay of a seek."""


@dataclass(frozen=True)
class PartitionFetch:
    """The records of one partition from one fetch.

    Parameters
    ----------
    partition : int
    begin : int
        Offset at which the fetch began; the first record may be a later one.
    records : list
        At least one.
    """

    partition: int
    begin: int
    records: list[Any]


class FetchEvent(ConsumerMessage):
    """All records of one topic from one fetch. Faust takes it for one message, the last record.

    One event per partition would cost more than the decisions: a fetch has few records of each of many
    partitions.
    """

    __slots__ = ("partitions",)

    def __init__(self, tp: TP, partitions: list[PartitionFetch], generation: int) -> None:
        last = partitions[-1].records[-1]
        super().__init__(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            None,
            None,
            None,
            None,
            tp=tp,
            generation_id=generation,
        )
        self.partitions = partitions


class FetchTopic(faust.Topic):
    """A topic whose events are fetches. Processors decode the records, so that no error is lost."""

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self.app.create_event(None, message, None, message)

        self.decode = decode  # type: ignore[method-assign]


class FetchThread(driver.AIOKafkaConsumerThread):
    """The consumer thread: it fetches, seeks, and keeps the offset of each partition's next fetch."""

    app: RouterApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor: dict[tuple[str, int], int] = {}
        """Offset of each partition's next fetch; missing until the ledger has positioned the partition."""
        self.without_records: dict[tuple[str, int], tuple[int, int]] = {}
        """Last range of offsets of each partition that has no records, only transaction markers and aborted
        records: from the cursor to the position of the consumer."""
        self._not_committed = RecurringProblem("group_offsets_not_committed", "group_offsets_committed")
        self.pace = FetchPace()
        read_odd_fetches(self.app.unreadable.failed)
        record_resets()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # messages of aborted transactions are not queries
        consumer._isolation_level = "read_committed"
        # a broker answers the requests of a connection in order, so requests of a rebalance wait behind an
        # empty fetch: 1.5 s with Faust's default, several times
        consumer._fetch_max_wait_ms = QUIET_WAIT_MS
        return consumer

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        fetched: dict[Any, Any] = dict(await super()._fetch_records(*args, **kwargs))
        self.pace.count(sum(map(len, fetched.values())))
        fetcher = self._ensure_consumer()._fetcher
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = self.pace.min_bytes, self.pace.wait_ms
        lanes = self.app.lanes
        for tp in fetched:
            self.app.unreadable.succeeded(tuple(tp))
        self._report_resets(lanes)
        by_topic: defaultdict[str, list[PartitionFetch]] = defaultdict(list)
        for tp in [tp for tp in fetched if tp.topic in lanes.topics]:
            records, begin = fetched.pop(tp), self.cursor.get(tp)
            if begin is not None and not self.app.drops_fetch(tp):
                by_topic[tp.topic].append(PartitionFetch(tp.partition, begin, records))
            if begin is not None:
                self.cursor[tp] = records[-1].offset + 1
        for topic, partitions in by_topic.items():
            last = TP(topic, partitions[-1].partition)
            fetched[last] = [FetchEvent(last, partitions, self.app.consumer_generation_id)]
        for tp, cursor in self.cursor.items():
            position = position_of(self._ensure_consumer(), tp)
            if position is not None and position > cursor:
                self.without_records[tp] = (cursor, position)
        return fetched

    def past_markers(self, tp: TP, offset: int) -> int:
        """Return the offset up to which there are no records from `offset` on."""
        begin, end = self.without_records.get(tp, (offset, offset))
        return end if begin == offset else offset

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's check for stalled streams asserts that each partition has a position.

        A partition whose offset is out of range has none until the broker has reported where its log starts,
        and the assertion would end the worker. `streams.telemetry.health` checks lanes instead.
        """

    def _report_resets(self, lanes: Lanes) -> None:
        """Inform lanes whose next offset was deleted from the log."""
        consumer = self._ensure_consumer()
        for tp, position in list(self.cursor.items()):
            start = pop_reset(consumer, tp)
            if start is not None and start != position:
                self.cursor[tp] = start
                self.consumer.loop.call_soon_threadsafe(lanes.handle_deleted_offset, *tp, position, start)

    async def start_at(self, offsets: Mapping[Any, int]) -> None:
        """Seek to these offsets, for partitions that are still assigned."""
        consumer = self._ensure_consumer()
        for tp in offsets.keys() & consumer.assignment():
            consumer.seek(tp, offsets[tp])
            self.app.unreadable.forget([tuple(tp)])
            self.cursor[tp] = offsets[tp]

    async def _seek_to_committed(self) -> Mapping[Any, int]:
        consumer = self._ensure_consumer()
        positions = self.app.lanes.positions(consumer.assignment())
        # changelogs are paused and not read here, so the group's offsets are not needed: the request for
        # them takes long while the coordinator moves
        others = {
            tp: 0 for tp in consumer.assignment() - positions.keys() if tp.topic not in self.app.lanes.topics
        }
        for tp in others:
            consumer.seek(tp, 0)
        await self.start_at(positions)
        return {**others, **positions}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the group's offsets, which only lag monitors read.

        Ledgers say where lanes continue, so a failure is logged and ends nothing. Faust would end the worker,
        for example if the partitions are revoked between its look at them and the commit.
        """
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        committable = {
            driver.TopicPartition(*tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in assigned
        }
        if not committable:
            return False
        try:
            await consumer.commit(committable)
        except KafkaError as error:
            if not isinstance(error, CommitFailedError | IllegalStateError):  # those are of a rebalance
                self._not_committed.occurred(reason=repr(error)[:200])
            return False
        self._not_committed.resolved()
        return True

    def request_unknown_topics(self) -> None:
        """Request metadata again if a subscribed topic is unknown; may be called from any thread.

        aiokafka repeats a failed request only after `metadata_max_age_ms`. Until then a worker whose broker
        went away while it started would be assigned no partitions.
        """
        if self._consumer is not None and self.thread_loop.is_running():
            self.thread_loop.call_soon_threadsafe(self._request_unknown_topics, self._consumer._client)

    @staticmethod
    def _request_unknown_topics(client: Any) -> None:
        if set(client._topics) - client.cluster.topics():
            client.force_metadata_update()

    async def seek_to_committed(self) -> Any:
        """Seek to the ledger's offsets; Faust calls this after a rebalance."""
        return await self.call_thread(self._seek_to_committed)

    async def on_thread_stop(self) -> None:
        """Close the consumer.

        While a broker is away, aiokafka cancels fetches that wait for a retry, and the cancellation surfaces
        here. It would end the thread before its shutdown is signalled, and the worker would wait a minute.
        """
        with contextlib.suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget all positions."""
        self.cursor.clear()
        self.without_records.clear()
        self.app.unreadable.forget(map(tuple, revoked))
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """Forget all positions."""
        self.cursor.clear()
        # the coordinator waits for this call, so both are of the same generation
        self.app.member = (generation_id, self._ensure_consumer()._coordinator.member_id)
        await super().on_partitions_assigned(assigned, generation_id)


class FetchConsumer(driver.Consumer):
    """A consumer that passes fetches on and keeps them out of Faust's bookkeeping by offset."""

    app: RouterApp
    _thread: FetchThread

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return record if isinstance(record, FetchEvent) else super()._to_message(tp, record)

    async def getmany(self, timeout: float) -> AsyncIterator[Any]:
        """Pass fetches to the conductor at once, and yield other messages to Faust."""
        async for tp, message in super().getmany(timeout):
            if isinstance(message, FetchEvent):
                await self.wait_first(self.callback(message), self.suspend_flow.wait())
            else:
                yield tp, message

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Fetch, after seeks that lanes need, from all partitions but full and unreadable ones."""
        lanes = self.app.lanes
        await self._seek_lanes(lanes)
        active = {tp for tp in active_partitions or () if lanes.has_lane(tp.topic, tp.partition)}
        full = {tp for tp in active if tp.topic in lanes.topics and self._is_full(lanes, tp)}
        resting = {tp for tp in active if self.app.unreadable.is_backing_off((tp.topic, tp.partition))}
        if not full and not resting:
            return await super()._getmany(active, min(timeout, POLL_SECONDS))
        if open_ones := active - full - resting:
            return await super()._getmany(open_ones, 0.02 if full else min(timeout, POLL_SECONDS))
        lanes.room.clear()
        await self.wait(lanes.room.wait(), timeout=POLL_SECONDS)
        return {}

    async def on_stop(self) -> None:
        """Do nothing: lanes are closed, so there are no offsets to commit.

        Faust would wait for a commit in flight, which retries indefinitely while the coordinator is away.
        """

    @staticmethod
    def _is_full(lanes: Lanes, tp: TP) -> bool:
        lane = lanes.all.get((tp.topic, tp.partition))
        return lane is not None and lane.full

    async def _seek_lanes(self, lanes: Lanes) -> None:
        targets = {}
        for (topic, partition), lane in lanes.all.items():
            if lane.needs_seek and lane.open and lane.assigned:
                lane.needs_seek = False
                lane.clear()
                targets[driver.TopicPartition(topic, partition)] = lane.processor.next_offset
        if targets:
            await self._thread.call_thread(self._thread.start_at, targets)

    def _filter_committable_offsets(self, tps: Any) -> dict[TP, int]:
        """Return offsets that follow the ledger, for lag monitors; none during a rebalance.

        Lanes may commit them in their transactions. An offset committed here would overwrite one of those.
        A commit of an old generation would make aiokafka rejoin again and again.
        """
        lanes = self.app.lanes
        if self.app.commits_with_transactions or self.app.rebalancing or not lanes.gate.is_set():
            return {}
        positions = {TP(*tp): offset for tp, offset in lanes.positions(lanes.all).items()}
        # past markers, which are no queries: lag monitors see 0 when nothing waits
        committable = {tp: self._thread.past_markers(tp, offset) for tp, offset in positions.items()}
        return {
            **super()._filter_committable_offsets(tps),
            **{
                tp: offset for tp, offset in committable.items() if offset and self._should_commit(tp, offset)
            },
        }


class Transport(driver.Transport):
    """The aiokafka transport with `FetchConsumer`."""

    Consumer = FetchConsumer


class RouterApp(faust.App):
    """A Faust app whose consumer feeds lanes."""

    lanes: Lanes
    commits_with_transactions = False
    """True if the lanes' transactions commit the group's offsets."""
    member: tuple[int, str] = (-1, "")
    """Generation and member id of the last assignment."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unreadable = UnreadablePartitions()

    def _new_transport(self) -> Any:
        return Transport(self.conf.broker_consumer, self)

    def drops_fetch(self, tp: Any) -> bool:
        """Return True if a fetch of this partition is to be dropped; only tests override this."""
        return False

    def request_unknown_topics(self) -> None:
        """See `FetchThread.request_unknown_topics`."""
        thread = getattr(self.consumer, "_thread", None)
        if thread is not None:
            thread.request_unknown_topics()

    def past_markers(self, place: tuple[str, int], offset: int) -> int:
        """See `FetchThread.past_markers`."""
        thread = getattr(self.consumer, "_thread", None)
        return offset if thread is None else int(thread.past_markers(TP(*place), offset))

    def cursor(self, topic: str, partition: int) -> int | None:
        """Return the offset of a partition's next fetch."""
        thread = getattr(self.consumer, "_thread", None)
        return None if thread is None else thread.cursor.get(TP(topic, partition))
