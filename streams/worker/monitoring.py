"""Monitoring of one worker: metrics, health, heartbeats, timeline and HTTP port."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from streams.config.settings import Settings
from streams.kafka.acls import log_missing_permissions
from streams.kafka.bounded_clients import AdminClient
from streams.kafka.broker_watch import BrokerWatch
from streams.kafka.clients import client_config, reader_config, status_producer
from streams.kafka.record_probe import make_record_probe
from streams.kafka.topics import worker_partitions
from streams.lanes.lanes import Lanes
from streams.lanes.processor import LaneProcessor
from streams.lanes.stage_timers import Stages
from streams.lanes.unreadable import Unreadable
from streams.ledger.period_reader import PeriodReader
from streams.ledger.view import LedgerView
from streams.planner.catalogue_reader import CatalogueReader
from streams.planner.plan_reader import PlanReader
from streams.planner.planner import PlannerProcessor
from streams.router.dead_letter_guard import DeadLetterGuard
from streams.router.router import RouterProcessor
from streams.telemetry.budget_summary import BudgetFigures
from streams.telemetry.cluster_summary import ClusterSummary, budget_figures, summarise_cluster
from streams.telemetry.health import Health
from streams.telemetry.heartbeat import Heartbeat
from streams.telemetry.instrumentation import instrument_planner, instrument_router
from streams.telemetry.lag import LagReader
from streams.telemetry.metrics import Metrics, Sources
from streams.telemetry.status_topic import HEARTBEAT_SECONDS, StatusReader, StatusWriter
from streams.telemetry.timeline import TimelineClock, point
from streams.telemetry.topic_monitor import TopicMonitor, deleted_offsets
from streams.telemetry.tracing import tracing
from streams.web.api import PageApi
from streams.web.recent_dead_letters import RecentDeadLetters
from streams.web.recent_plans import RecentPlans
from streams.web.server import Explain, WebServer

log = structlog.get_logger(__name__)

MONITOR_SECONDS = 1.0
"""Interval between two observations of the lanes."""

PERMISSION_SECONDS = 10.0
"""Minimum interval between two checks of this client's permissions."""

STATUS_QUEUE_MESSAGES = 10_000
"""Maximum number of status messages that wait for the broker; further ones are dropped."""


class WorkerMonitor:
    """Observes one worker, publishes its state, and serves the HTTP port.

    Parameters
    ----------
    settings : Settings
    stages : Stages
    view : LedgerView
    plans : PlanReader
    catalogue : CatalogueReader
    overflow : bool
        The router has an overflow lane.
    lanes : callable
        Returns the worker's lanes, or None before they exist.
    explain : callable
        Explains the decision about a query, by its id.
    unreadable : callable
        Returns the partitions whose next records cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        stages: Stages,
        view: LedgerView,
        plans: PlanReader,
        catalogue: CatalogueReader,
        overflow: bool,
        lanes: Callable[[], Lanes | None],
        explain: Explain,
        unreadable: Callable[[], Mapping[tuple[str, int], Unreadable]],
    ) -> None:
        self._settings, self._view, self._plans, self._lanes = settings, view, plans, lanes
        self._catalogue = catalogue
        self._admin = AdminClient(client_config(settings))
        self._guard = DeadLetterGuard(settings.dlq_limit)
        self._broker = BrokerWatch(settings, self._admin)
        self._lag = LagReader(settings, self._admin, overflow, self._broker)
        used = worker_partitions(settings, catalogue.latest.catalogue, overflow)
        self._topics = TopicMonitor(settings, self._admin, used, self._halt)
        self._status = StatusReader(settings)
        self._letters, self._recent_plans = RecentDeadLetters(settings), RecentPlans(settings)
        self._periods = PeriodReader(settings)
        self._writer = StatusWriter(status_producer(settings), settings.topics.status)
        self._traces = tracing(settings.app_id)
        self._timeline_clock = TimelineClock()
        self._planner_stepped_at = 0.0
        self._next_heartbeat = self._next_permission_check = 0.0
        self._permission_check = threading.Lock()
        self.health = Health(
            lanes,
            {"plans": plans, "ledgers": view},
            lambda: plans.latest is not None,
            make_record_probe(reader_config(settings)),
            unreadable=unreadable,
            missing=lambda: self._topics.missing,
            warnings=self.warnings,
        )
        self.metrics = Metrics(
            Sources(
                overview=self.overview,
                lag=lambda: self._lag.lag(view.records()),
                lanes=lanes,
                ready=lambda: self.health.ready().ok,
                planner_heard_at=self._planner_heard_at,
                unreadable=unreadable,
                topics=lambda: self._topics.state,
                deleted=lambda: deleted_offsets(settings, view.records()),
                dead_letters=lambda: self._periods.dead_letters(view.records()),
            )
        )
        stages.observers.append(self.metrics.stage)
        self._heartbeat = Heartbeat(self.metrics)
        answers = PageApi(
            settings,
            self._heartbeat.worker,
            self.overview,
            view,
            self._lag,
            self._status,
            self._recent_plans,
            self._letters,
            self._periods,
            self.health,
            self._broker,
            self.budget_figures,
        )
        self._web = WebServer(settings, self.health, self.metrics, answers.by_name(), explain, answers.values)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str | None:
        """Address of the page."""
        return self._web.url

    def instrument(self, processor: LaneProcessor[object]) -> LaneProcessor[object]:
        """Return a processor that reports metrics and traces after each commit."""
        if isinstance(processor, RouterProcessor):
            return instrument_router(
                processor, self.metrics, self._step_failed, self._traces, self._count_dead_letters
            )
        if isinstance(processor, PlannerProcessor):
            return instrument_planner(processor, self.metrics, self._step_failed, self._planner_stepped)
        return processor

    async def start(self) -> None:
        """Start monitoring, and the HTTP port if one is set.

        Raises
        ------
        ValueError
            The worker cannot listen on the port.
        """
        if self._settings.web_port is not None:
            await self._web.start()
            self._status.start()
            self._letters.start()
            self._recent_plans.start()
            self._periods.start()
        self._task = asyncio.create_task(self._run(), name="observation")

    async def stop(self) -> None:
        """Publish this worker's departure, and stop."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        await self._web.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def overview(self) -> ClusterSummary | None:
        """Return the current period over all lanes, or None before there is a plan."""
        plan = self._plans.latest
        if plan is None:
            return None
        return summarise_cluster(plan, self._view.records(), time.time())

    def budget_figures(self) -> BudgetFigures | None:
        """Return the figures of every counter, or None before there is a plan."""
        plan = self._plans.latest
        return None if plan is None else budget_figures(plan, self._view.records())

    def warnings(self) -> list[str]:
        """Return problems of topics that do not stop the worker."""
        return self._topics.warnings(self._view.records(), time.time())

    # ---- inside ------------------------------------------------------------------------------------------

    def _close(self) -> None:
        self._writer.put(f"worker.{self._heartbeat.worker}", None)
        self._writer.close()
        if self._traces is not None:
            self._traces.close()
        self._letters.stop()
        self._recent_plans.stop()
        self._periods.stop()
        self._status.stop()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.health.observe_lanes()
                if time.monotonic() >= self._next_heartbeat:
                    self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
                    await loop.run_in_executor(None, self._publish_heartbeat)
                await loop.run_in_executor(None, self._write_timeline)
            except Exception:
                # monitoring must never stop routing
                log.exception("observation_failed")
            await asyncio.sleep(MONITOR_SECONDS)

    def _publish_heartbeat(self) -> None:
        self._topics.refresh()
        self._lag.refresh(self._view.records())
        heartbeat = self._heartbeat.snapshot(self._lanes(), self.health.ready().ok)
        self._writer.put(f"worker.{self._heartbeat.worker}", heartbeat)

    def _halt(self, reason: str) -> None:
        if (lanes := self._lanes()) is not None:
            lanes.halt(reason)

    def _count_dead_letters(self, queries: int, dead: int) -> None:
        if self._guard.observe(queries, dead) and (lanes := self._lanes()) is not None:
            lanes.halt(self._guard.reason, "dead letters")

    def _step_failed(self) -> None:
        """Log missing permissions: the error of a failed transaction does not name the topic."""
        with self._permission_check:
            if time.monotonic() < self._next_permission_check:
                return
            self._next_permission_check = time.monotonic() + PERMISSION_SECONDS
        # in a thread of its own, because an unreachable broker would block the lane
        arguments = (self._admin, self._settings, self._catalogue.latest.catalogue)
        threading.Thread(target=log_missing_permissions, args=arguments, name="rights", daemon=True).start()

    def _planner_stepped(self) -> None:
        self._planner_stepped_at = time.time()

    def _write_timeline(self) -> None:
        """Write the timeline's points that are due, if the planner runs in this worker."""
        now = time.time()
        if now - self._planner_stepped_at > 2 * MONITOR_SECONDS or (overview := self.overview()) is None:
            return
        if keys := self._timeline_clock.pending(now):
            value = point(overview, now, self._lag.lag(self._view.records()).total)
            for key in keys:
                self._writer.put(f"point.{key}", value)
            self._delete_dead_workers()

    def _delete_dead_workers(self) -> None:
        for worker in self._status.forgotten():
            self._writer.put(f"worker.{worker}", None)

    def _planner_heard_at(self) -> float:
        """Return when the planner last worked: in this worker, or by the newest point or plan."""
        newest: dict[str, Any] | None = self._status.timeline.newest()
        plan = self._plans.latest
        written = (newest["at"] if newest else 0.0, plan.created_at if plan else 0.0)
        return max(self._planner_stepped_at, *written)
