"""A worker: the Faust app with its agents, tables and timers, put together from the settings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from faust.types import TP, StreamT

from routing.alignment import Alignment
from routing.estimators.base import Estimates
from routing.plan import Plan
from routing.planning import Planner, PlanningSettings
from streams.bounding import admit_bounded
from streams.catalogue_versions import CatalogueReader, CatalogueVersion
from streams.charging import Charger, charge_bounds, charge_estimates, lacking_prices
from streams.cluster import LedgerView
from streams.estimating import Estimating
from streams.fetching import BatchTopic, RouterApp
from streams.intake import QueryIntake
from streams.kafka import faust_brokers, faust_credentials, reader_config
from streams.lanes import Desk, Lanes
from streams.ledger import LedgerRecord
from streams.machine import limit_threads
from streams.observation import Observation
from streams.outcome_feed import OutcomeFeed
from streams.overflow import OverflowIntake
from streams.planner import PlannerDesk
from streams.plans import PlanReader
from streams.router import RouterDesk, Shared
from streams.settings import Settings
from streams.stages import Stages
from streams.tables import LedgerTable

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.2
"""How often the planner looks at the ledgers when nothing is written to them."""

LOOK_SECONDS = 0.02
"""How soon it is asked to look after something was."""

WATCH_SECONDS = 1.0

CATALOGUE_SECONDS = 30.0


class Router:
    """Everything a worker consists of.

    Parameters
    ----------
    settings : Settings
    estimating : Estimating
    """

    def __init__(self, settings: Settings, estimating: Estimating) -> None:
        self.settings, self.estimating = settings, estimating
        self.topics = settings.topics
        self.catalogue = CatalogueReader(settings, self._catalogue_changed)
        self.overflow = settings.overflow == "on" or (settings.overflow == "auto" and settings.partitions > 1)
        self.stages = Stages()
        self.executor = ThreadPoolExecutor(
            2 * settings.partitions + 4, thread_name_prefix="desk",
            initializer=limit_threads, initargs=(settings.partitions,),
        )  # fmt: skip
        self.loop: asyncio.AbstractEventLoop | None = None
        self.view = LedgerView(settings, self.overflow, self._ledger_changed)
        self._look_is_due = self._file_compared = False
        self.plans = PlanReader(settings, self._plan_changed)
        self.feed = OutcomeFeed(reader_config(settings), self.topics.outcomes, self._outcomes_came)
        self.shared = Shared(
            settings,
            self.catalogue,
            self._charger(),
            self.plans,
            self.feed,
            self.stages,
            self._record_written,
        )
        self._leave_one_out: Estimates | None = None
        self.observation = Observation(
            settings,
            self.stages,
            self.view,
            self.plans,
            self.catalogue,
            self.overflow,
            self._lanes,
            self._explain,
        )
        self._crashing: asyncio.Future[None] | None = None
        self.app = self._app()
        self.ledger = self._table("ledger", self.topics.ledger, settings.partitions)
        self.ledger.assign = self._assign
        self.overflow_ledger = self._table("overflow-ledger", self.topics.overflow_ledger, 1)
        self._agents()

    # ---- the Faust app -----------------------------------------------------------------------------------

    def _app(self) -> RouterApp:
        settings = self.settings
        return RouterApp(
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
        )

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

        async def to_lanes(batches: StreamT) -> None:
            async for batch in batches:
                lane = app.lanes.lane(batch.topic, batch.partition)
                lane.add(batch.generation_id, batch.begin, batch.records)

        for name, topic, partitions in (
            ("route", self.topics.queries, self.settings.partitions),
            ("overflow", self.topics.overflow, 1),
            ("plan", self.topics.samples, 1),
        ):
            source = BatchTopic(
                app, topics=[topic], partitions=partitions, acks=False,
                value_serializer="raw", key_serializer="raw",
            )  # fmt: skip
            app.agent(source, name=name, concurrency=1)(to_lanes)

        app.on_partitions_revoked.connect(self._revoked, weak=False)
        app.on_rebalance_complete.connect(self._recovered, weak=False)
        app.on_before_shutdown.connect(self._before_shutdown, weak=False)

        @app.timer(TICK_SECONDS)
        async def tick() -> None:
            app.lanes.nudge(self.topics.samples)

        @app.timer(WATCH_SECONDS)
        async def watch() -> None:
            self._look_after_readers()
            self._look_at_file()
            app.lanes.watch(app.cursor)
            app.lanes.nudge(self.topics.queries, self.topics.overflow)

    def start(self) -> None:
        """Start the threads that follow topics: lanes wait for what they read."""
        self.view.start()
        self.catalogue.start()
        self.plans.start()
        self.feed.start()

    async def _assign(self, assigned: set[TP], new: set[TP]) -> None:
        await self.app.lanes.assign(set(assigned), set(new))

    def prepare(self) -> None:
        """Make the lanes and start what runs beside the app, in the app's loop before it starts."""
        self.loop = asyncio.get_running_loop()
        # Ledgers load themselves. Faust would wait for the last offset of the changelog, which is a marker
        # that no consumer is given: for ever, when a lane commits while partitions move.
        tables: Any = self.app.tables
        recovery = tables.recovery
        recovery.need_recovery = lambda: False
        # nor does it matter where changelogs begin and end: to ask it, with a broker dead and its partitions'
        # new leaders not known yet, took up to 20 s a question, with all of the worker's lanes waiting
        for question in ("_build_highwaters", "_build_offsets", "_seek_offsets"):
            setattr(recovery, question, _not_asked)
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.app.lanes = Lanes(
            lambda topic, partition: self.observation.watched(self._desk_for(topic, partition)),
            (self.topics.queries, self.topics.overflow, self.topics.samples),
            self.executor,
            lambda: int(self.app.consumer_generation_id),
            self._crash,
            batch_max=self.settings.batch_max,
            room_max=self.settings.lane_room,
            transaction_seconds=self.settings.transaction_seconds,
        )
        self.start()

    def _look_after_readers(self) -> None:
        """A worker without one of its readers would go on with old plans, or settle nothing: it ends."""
        readers = {
            "outcomes": self.feed.failure,
            "plans": self.plans.failure,
            "ledgers": self.view.failure,
            "catalogue": self.catalogue.failure,
        }
        for name, failure in readers.items():
            if failure is not None and self._crashing is None:
                log.error("worker_cannot_go_on", reader=name, reason=repr(failure))
                self._crash(failure)

    def _look_at_file(self) -> None:
        """Once there is a plan: what this worker started on may not be what is in force."""
        if not self._file_compared and self.catalogue.ready and (plan := self.plans.latest) is not None:
            self._file_compared = True
            self.catalogue.compare_file(plan)

    def _crash(self, error: BaseException) -> None:
        self._crashing = asyncio.ensure_future(self.app.crash(error))

    async def _revoked(self, *args: Any, **kwargs: Any) -> None:
        await self.app.lanes.quiesce()

    async def _recovered(self, *args: Any, **kwargs: Any) -> None:
        self.app.lanes.go()

    async def _before_shutdown(self, *args: Any, **kwargs: Any) -> None:
        log.info("draining")
        await self.app.lanes.leave()
        await self.observation.stop()
        await asyncio.get_running_loop().run_in_executor(None, self.stop)
        log.info("drained")

    def stop(self) -> None:
        """Stop what runs beside the app."""
        self.feed.stop()
        self.plans.stop()
        self.catalogue.stop()
        self.view.stop()

    def _lanes(self) -> Lanes | None:
        return getattr(self.app, "lanes", None)

    def _explain(self, query_id: str) -> dict[str, Any]:
        from streams.explaining import explain  # only a page asks for it

        return explain(self.settings, self.estimating, query_id)

    # ---- desks -------------------------------------------------------------------------------------------

    def _desk_for(self, topic: str, partition: int) -> Desk:
        if topic == self.topics.samples:
            return PlannerDesk(
                self.settings, self._planner, self.view, self.stages, self.catalogue, self.estimating
            )
        if topic == self.topics.overflow:
            overflow = OverflowIntake()
            return RouterDesk(self.shared, self.settings.partitions, overflow, self.topics.overflow_ledger, 0)
        estimating = self.estimating
        admit = admit_bounded if self.settings.reserve == "bound" else None
        queries = QueryIntake(estimating.embedder, estimating.dimension, estimating.estimator, admit)
        return RouterDesk(self.shared, partition, queries, self.topics.ledger, partition)

    def _charger(self) -> Charger:
        if self.settings.reserve == "estimate":
            return charge_estimates
        if problem := lacking_prices(self.catalogue.latest.catalogue):
            raise ValueError(problem)
        return charge_bounds(lambda: self.catalogue.models, self.settings.default_max_tokens)

    def _planner(self) -> Planner:
        settings = self.settings
        planning = planning_settings(settings)
        needs_history = settings.warmup == "history" or settings.resolve == "every"
        if needs_history and self._leave_one_out is None:
            self._leave_one_out = self.estimating.leave_one_out()
        if not self.catalogue.wait(CATALOGUE_SECONDS):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the catalogue's topic was not read"))
        version = self.catalogue.latest
        names = version.catalogue.names
        history = self._leave_one_out
        if history is not None:
            history = Alignment(self.estimating.estimator.models, names).apply(history)
        return Planner(
            planning,
            names,
            self.estimating.budgets(version.catalogue),
            lanes=settings.partitions,
            overflow=self.overflow,
            history=history,
            catalogue=version.version,
            list_prices=version.list_prices_since(self.catalogue.base),
            clock=time.time,
        )

    # ---- what threads tell -------------------------------------------------------------------------------

    def _plan_changed(self, plan: Plan) -> None:
        self._from_thread(self.topics.queries, self.topics.overflow)

    def _ledger_changed(self) -> None:
        """Ask the planner for a look, once for all that is written until then."""
        if not self._look_is_due and self.loop is not None:
            self._look_is_due = True
            self._in_loop(self.loop.call_later, LOOK_SECONDS, self._ask_for_a_look)

    def _ask_for_a_look(self) -> None:
        self._look_is_due = False
        self.app.lanes.nudge(self.topics.samples)

    def _catalogue_changed(self, version: CatalogueVersion) -> None:
        self._from_thread(self.topics.queries, self.topics.overflow, self.topics.samples)

    def _outcomes_came(self, lane: int) -> None:
        self._from_thread(self.topics.queries if lane < self.settings.partitions else self.topics.overflow)

    def _from_thread(self, *topics: str) -> None:
        if self.loop is not None:
            self._in_loop(self.app.lanes.nudge, *topics)

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        assert self.loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(call, *arguments)

    def _record_written(self, record: LedgerRecord) -> None:
        pool = record.lane == self.settings.partitions
        table = self.overflow_ledger if pool else self.ledger
        table.put(record.lane, 0 if pool else record.lane, record.to_dict())


async def _not_asked(*arguments: Any, **options: Any) -> None:
    """In place of a question that Faust asks the broker."""


def planning_settings(settings: Settings) -> PlanningSettings:
    """The part of the settings that is about learning prices."""
    return PlanningSettings(
        horizon=settings.horizon,
        period_seconds=settings.period_seconds,
        eps=settings.eps,
        warmup=settings.warmup,
        resolve=settings.resolve,
        resolve_every=settings.resolve_every,
        resolve_late=settings.resolve_late,
        resolve_tail=settings.resolve_tail,
        resolve_window=settings.resolve_window,
        solver=settings.solver,
        mix=settings.mix,
    )
