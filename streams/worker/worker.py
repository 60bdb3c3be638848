"""Assembly of a worker: the Faust app with its agents, tables and timers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from faust.types import TP, StreamT

from routing.policy.plan import Plan
from streams.config.cpus import usable_cpus
from streams.config.settings import Settings
from streams.kafka.alternating_producers import AlternatingProducers
from streams.kafka.clients import outcome_consumer, round_config
from streams.kafka.follower import FOLLOW_WAIT_MS
from streams.kafka.group_membership import GroupMembership
from streams.kafka.owned_lanes import OwnedLanes
from streams.kafka.rounds import Rounds
from streams.kafka.topic_access import TopicAccess
from streams.kafka.topics import input_partitions
from streams.lanes.faust_app import FetchTopic, RouterApp
from streams.lanes.faust_clients import faust_brokers, faust_credentials
from streams.lanes.lanes import REST_SHARE, Lanes
from streams.lanes.ledger_table import LedgerTable, LedgerTables
from streams.lanes.marker_commits import MarkerCommits
from streams.lanes.stage_timers import Stages
from streams.lanes.thread_slots import ThreadSlots
from streams.ledger.inbox_reader import MAX_QUEUED_RETURNS, InboxReader
from streams.ledger.record import LedgerRecord
from streams.ledger.view import LedgerView
from streams.messages.catalogue import (
    CatalogueVersion,
)
from streams.planner.catalogue_reader import (
    CatalogueReader,
)
from streams.planner.plan_reader import PlanReader
from streams.router.context import WorkerContext
from streams.router.estimation import Estimation
from streams.worker.monitoring import WorkerMonitor
from streams.worker.process_tuning import limit_threads
from streams.worker.processor_factory import (
    ProcessorFactory,
    make_answer_limit,
    make_charger,
    make_token_counter,
)

log = structlog.get_logger(__name__)

PLANNER_SECONDS = 0.2
"""Interval at which the planner is woken if no ledger changes."""

LEDGER_DELAY_SECONDS = 0.02
"""Delay before a ledger change wakes the planner, so that one call covers several changes."""

WATCH_SECONDS = 1.0
"""Interval between two checks of readers, catalogue file and lanes."""


class Worker:
    """One worker process: readers, lanes, monitoring and the Faust app.

    Parameters
    ----------
    settings : Settings
    estimating : Estimation
    in_turn : bool
        Each lane has transactions of its own, one of all lanes at a time, instead of one transaction for all:
        for a broker that mishandles overlapping transactions, or a router without a consumer group.
    """

    def __init__(self, settings: Settings, estimating: Estimation, *, in_turn: bool = False) -> None:
        self.settings, self.estimating = settings, estimating
        self.topics = settings.topics
        self.catalogue = CatalogueReader(settings, self._catalogue_changed)
        self.overflow = settings.overflow == "on" or (settings.overflow == "auto" and settings.partitions > 1)
        self.stages = Stages()
        self.executor = ThreadPoolExecutor(
            2 * settings.partitions + 4,
            thread_name_prefix="lane",
            initializer=limit_threads,
            initargs=(settings.partitions,),
        )
        self.slots = ThreadSlots(max(2, usable_cpus()))
        self.loop: asyncio.AbstractEventLoop | None = None
        self.rounds: Rounds | None = None
        """Transactions of all lanes; None if each lane has its own."""
        self.markers: MarkerCommits | None = None
        """Commits of idle lanes; None if Faust commits."""
        self.view = LedgerView(settings, self.overflow, self._ledger_changed)
        self._planner_wake_due = self._file_compared = False
        self.plans = PlanReader(settings, self._plan_changed)
        self.feed = InboxReader(
            lambda: outcome_consumer(settings, FOLLOW_WAIT_MS), self.topics.outcomes, self._inbox_filled
        )
        self.returned = InboxReader(
            lambda: outcome_consumer(settings, FOLLOW_WAIT_MS),
            self.topics.returned,
            self._inbox_filled,
            MAX_QUEUED_RETURNS,
        )
        self.shared = WorkerContext(
            settings,
            self.catalogue,
            make_charger(settings, self.catalogue, estimating),
            make_token_counter(settings, self.catalogue),
            self.plans,
            self.feed,
            self.returned,
            self.stages,
            self._record_written,
            self._access(in_turn),
            answer_limit=make_answer_limit(settings, self.catalogue, estimating),
        )
        self.processors = ProcessorFactory(self.shared, estimating, self.view, self.overflow)
        self.monitor = WorkerMonitor(
            settings,
            self.stages,
            self.view,
            self.plans,
            self.catalogue,
            self.overflow,
            self._lanes,
            self._explain,
            lambda: self.app.unreadable.snapshot(),
        )
        self._crashing: asyncio.Future[None] | None = None
        self.app = self._app()
        self.ledger = self._table("ledger", self.topics.ledger, settings.partitions)
        self.ledger.assign = self._assign
        self.overflow_ledger = self._table("overflow-ledger", self.topics.overflow_ledger, 1)
        self._agents()

    def _access(self, in_turn: bool) -> TopicAccess:
        """Return the lanes' access to topics: with one producer for all, or with one each."""
        settings = self.settings
        if in_turn:
            return TopicAccess(settings, in_turn=True)
        name = f"worker-{settings.instance_id or secrets.token_hex(8)}"
        self.rounds = Rounds(
            f"{settings.app_id}-{name}",
            lambda: AlternatingProducers(round_config(settings, name)),
            on_wait=self.slots.give_back,
        )
        return OwnedLanes(settings, self.rounds)

    # ---- the Faust app -----------------------------------------------------------------------------------

    def _app(self) -> RouterApp:
        settings = self.settings
        app = RouterApp(
            settings.app_id,
            broker=faust_brokers(settings),
            broker_credentials=faust_credentials(settings),
            store="memory://",
            datadir=str(settings.data_dir / f"{settings.app_id}-{os.getpid()}"),
            topic_partitions=settings.partitions,
            topic_replication_factor=settings.replication_factor,
            topic_disable_leader=True,
            topic_allow_declare=False,
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=settings.session_timeout_seconds / 5,
            broker_commit_interval=1.0,
            broker_request_timeout=max(20.0, settings.session_timeout_seconds + 5),
            consumer_max_fetch_size=settings.fetch_max_bytes,
            consumer_auto_offset_reset="earliest",
            table_standby_replicas=0,
            stream_wait_empty=False,
            value_serializer="raw",
            key_serializer="raw",
            web_enabled=False,
            web_tables_enabled=False,
            worker_redirect_stdouts=False,
            TableManager=LedgerTables,
            consumer_group_instance_id=settings.instance_id,
        )
        app.commits_with_transactions = self.rounds is not None
        return app

    def _table(self, name: str, topic: str, partitions: int) -> LedgerTable:
        table = LedgerTable(
            self.app,
            name=name,
            default=dict,
            partitions=partitions,
            changelog_topic=self.app.topic(topic, partitions=partitions, compacting=True, internal=True),
        )
        self.app.tables.add(table)
        return table

    def _agents(self) -> None:
        app = self.app

        async def to_lanes(fetches: StreamT) -> None:
            async for fetch in fetches:
                for one in fetch.partitions:
                    lane = app.lanes.lane(fetch.topic, one.partition)
                    lane.append(fetch.generation_id, one.begin, one.records)

        names = {self.topics.queries: "route", self.topics.overflow: "overflow", self.topics.samples: "plan"}
        for topic, partitions in input_partitions(self.settings).items():
            source = FetchTopic(
                app,
                topics=[topic],
                partitions=partitions,
                acks=False,
                value_serializer="raw",
                key_serializer="raw",
            )
            app.agent(source, name=names[topic], concurrency=1)(to_lanes)

        app.on_partitions_revoked.connect(self._revoked, weak=False)
        app.on_rebalance_complete.connect(self._recovered, weak=False)
        app.on_before_shutdown.connect(self._before_shutdown, weak=False)

        @app.timer(PLANNER_SECONDS)
        async def tick() -> None:
            app.lanes.wake(self.topics.samples)

        @app.timer(WATCH_SECONDS)
        async def watch() -> None:
            self._check_readers()
            self._compare_catalogue_file()
            app.request_unknown_topics()
            if self.markers is not None:
                self.markers.start()
            app.lanes.detect_lost_tail(app.cursor)
            app.lanes.wake(self.topics.queries, self.topics.overflow)

    def start(self) -> None:
        """Start the threads that follow topics."""
        self.view.start()
        self.catalogue.start()
        self.plans.start()
        self.feed.start()
        self.returned.start()

    async def _assign(self, assigned: set[TP], new: set[TP]) -> None:
        opened = new
        if self.rounds is not None:
            generation, member = self.app.member
            membership = GroupMembership(self.settings.app_id, generation, member, self.settings.instance_id)
            if not self.rounds.assign(membership, {(tp.topic, tp.partition) for tp in assigned - new}):
                opened = assigned
        await self.app.lanes.assign(set(assigned), set(opened))

    def prepare(self) -> None:
        """Create the lanes and start the readers; call it in the app's loop before the app starts."""
        self.loop = asyncio.get_running_loop()
        # Processors load their ledgers themselves. Faust would wait for the changelog's last offset, a
        # transaction marker that no consumer gets: indefinitely, if a lane commits during a rebalance.
        tables: Any = self.app.tables
        recovery = tables.recovery
        recovery.need_recovery = lambda: False
        # The offsets of changelogs are not needed, either. While a dead broker's partitions have no leader,
        # each of these calls would block all lanes for up to 20 s.
        for method in ("_build_highwaters", "_build_offsets", "_seek_offsets"):
            setattr(recovery, method, _skip_offsets)
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.app.lanes = Lanes(
            lambda topic, partition: self.monitor.instrument(self.processors.create(topic, partition)),
            input_partitions(self.settings),
            self.executor,
            self.slots,
            lambda: int(self.app.consumer_generation_id),
            self._crash,
            batch_max=self.settings.batch_max,
            room_max=self.settings.lane_room,
            transaction_seconds=self.settings.transaction_seconds,
            # batches that become ready during a round share the next, so a pause would only add to latency
            rest=REST_SHARE if self.rounds is None else 0.0,
            partitions=input_partitions(self.settings),
        )
        if self.rounds is not None:
            self.markers = MarkerCommits(self.app.lanes, self.app.past_markers, self.rounds.commit_offset)
        self.start()

    def _check_readers(self) -> None:
        """Stop the worker if a reader has failed: it would use old plans, or settle nothing."""
        readers = {
            "outcomes": self.feed.failure,
            "returned queries": self.returned.failure,
            "plans": self.plans.failure,
            "ledgers": self.view.failure,
            "catalogue": self.catalogue.failure,
        }
        for name, failure in readers.items():
            if failure is not None and self._crashing is None:
                log.error("worker_cannot_go_on", reader=name, reason=repr(failure))
                self._crash(failure)

    def _compare_catalogue_file(self) -> None:
        """Compare this worker's catalogue file, once, with the catalogue in force."""
        if not self._file_compared and self.catalogue.ready and (plan := self.plans.latest) is not None:
            self._file_compared = True
            self.catalogue.compare_file(plan)

    def _crash(self, error: BaseException) -> None:
        self._crashing = asyncio.ensure_future(self.app.crash(error))

    async def _revoked(self, *args: Any, **kwargs: Any) -> None:
        await self.app.lanes.drain()

    async def _recovered(self, *args: Any, **kwargs: Any) -> None:
        self.app.lanes.resume()

    async def _before_shutdown(self, *args: Any, **kwargs: Any) -> None:
        log.info("draining")
        await self.app.lanes.shutdown()
        await self.monitor.stop()
        await asyncio.get_running_loop().run_in_executor(None, self.stop)
        log.info("drained")

    def stop(self) -> None:
        """Stop the readers."""
        self.feed.stop()
        self.returned.stop()
        self.plans.stop()
        self.catalogue.stop()
        self.view.stop()
        if self.rounds is not None:
            self.rounds.close()

    def _lanes(self) -> Lanes | None:
        return getattr(self.app, "lanes", None)

    def _explain(self, query_id: str) -> dict[str, Any]:
        from streams.operations.explain import explain  # only the page needs it

        return explain(self.settings, self.estimating, query_id)

    # ---- callbacks of reader threads -----------------------------------------------------------------------

    def _plan_changed(self, plan: Plan) -> None:
        self._from_thread(self.topics.queries, self.topics.overflow)

    def _ledger_changed(self) -> None:
        """Wake the planner soon, once for all changes until then."""
        if not self._planner_wake_due and self.loop is not None:
            self._planner_wake_due = True
            self._in_loop(self.loop.call_later, LEDGER_DELAY_SECONDS, self._wake_planner)

    def _wake_planner(self) -> None:
        self._planner_wake_due = False
        self.app.lanes.wake(self.topics.samples)

    def _catalogue_changed(self, version: CatalogueVersion) -> None:
        self._from_thread(self.topics.queries, self.topics.overflow, self.topics.samples)

    def _inbox_filled(self, lane: int) -> None:
        topics, partitions = self.topics, self.settings.partitions
        place = (topics.queries, lane) if lane < partitions else (topics.overflow, 0)
        if self.loop is not None:
            self._in_loop(self.app.lanes.wake_lane, *place)

    def _from_thread(self, *topics: str) -> None:
        if self.loop is not None:
            self._in_loop(self.app.lanes.wake, *topics)

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        assert self.loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(call, *arguments)

    def _record_written(self, record: LedgerRecord) -> None:
        pool = record.lane == self.settings.partitions
        table = self.overflow_ledger if pool else self.ledger
        table.put(record.lane, 0 if pool else record.lane, record.to_dict())


async def _skip_offsets(*arguments: Any, **options: Any) -> None:
    """Replace a method of Faust's recovery that asks the broker for offsets."""
