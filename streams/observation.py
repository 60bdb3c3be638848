"""What a worker shows of itself and of the cluster, put together: metrics, health, status, HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka.admin import AdminClient

from streams.beats import Pulse
from streams.catalogue_versions import CatalogueReader
from streams.cluster import LedgerView
from streams.health import Health, asks_broker
from streams.kafka import client_config, reader_config
from streams.lag import LagReader
from streams.lanes import Desk, Lanes
from streams.metrics import Metrics, Sources
from streams.overview import Overview, survey
from streams.permissions import tell_refused
from streams.planner import PlannerDesk
from streams.plans import PlanReader
from streams.router import RouterDesk
from streams.settings import Settings
from streams.stages import Stages
from streams.status import BEAT_SECONDS, StatusReader, StatusWriter, plan_key, plan_summary
from streams.timeline import Timekeeper, point
from streams.tracing import tracing
from streams.watching import watched_planner, watched_router
from streams.web.answers import Answers
from streams.web.dead_letters import DeadLetters
from streams.web.server import Explain, WebServer

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0

ASK_SECONDS = 10.0
"""Least time between two questions for what this client may do."""


class Observation:
    """Watches one worker.

    Parameters
    ----------
    settings : Settings
    stages : Stages
    view : LedgerView
    plans : PlanReader
    catalogue : CatalogueReader
    overflow : bool
        There is an overflow lane.
    lanes : callable
        The worker's lanes, None before they are made.
    explain : callable
        What is known of a query, by its id.
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
    ) -> None:
        self._settings, self._view, self._plans, self._lanes = settings, view, plans, lanes
        self._catalogue = catalogue
        self._admin = AdminClient(client_config(settings))
        self._lag = LagReader(settings, self._admin, overflow)
        self._status = StatusReader(settings)
        self._letters = DeadLetters(settings)
        self._writer = StatusWriter(settings)
        self._traces = tracing(settings.app_id)
        self._timekeeper = Timekeeper()
        self._planner_stepped_at = 0.0
        self._told_version = -1
        self._next_beat = self._next_asking = 0.0
        self._asking = threading.Lock()
        self.health = Health(
            lanes, {"plans": plans, "ledgers": view}, lambda: plans.latest is not None,
            asks_broker(reader_config(settings)),
        )  # fmt: skip
        self.metrics = Metrics(
            Sources(
                overview=self.overview,
                lag=lambda: self._lag.lag(view.records()),
                lanes=lanes,
                ready=lambda: self.health.ready().ok,
                planner_heard_at=self._planner_heard_at,
            )
        )
        stages.observers.append(self.metrics.stage)
        self._pulse = Pulse(self.metrics)
        answers = Answers(
            settings, self._pulse.worker, self.overview, view, self._lag, self._status, self._letters,
            self.health,
        )  # fmt: skip
        self._web = WebServer(settings, self.health, self.metrics, answers.by_name(), explain)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str | None:
        """Where the page is."""
        return self._web.url

    def watched(self, desk: Desk) -> Desk:
        """The same desk, watched."""
        if isinstance(desk, RouterDesk):
            return watched_router(desk, self.metrics, self._step_failed, self._traces)
        if isinstance(desk, PlannerDesk):
            return watched_planner(desk, self.metrics, self._step_failed, self._planner_stepped)
        return desk

    async def start(self) -> None:
        """Start what watches, and the HTTP port where one is set.

        Raises
        ------
        ValueError
            The port cannot be listened on.
        """
        if self._settings.web_port is not None:
            await self._web.start()
            self._status.start()
            self._letters.start()
        self._task = asyncio.create_task(self._run(), name="observation")

    async def stop(self) -> None:
        """Say goodbye."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        await self._web.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    def overview(self) -> Overview | None:
        """The period over all lanes, as this worker sees it."""
        plan = self._plans.latest
        if plan is None:
            return None
        return survey(plan, self._view.records(), time.time(), self._settings.period_seconds)

    # ---- inside ------------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._writer.put(f"worker.{self._pulse.worker}", None)
        self._writer.close()
        if self._traces is not None:
            self._traces.close()
        self._letters.stop()
        self._status.stop()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.health.look()
                if time.monotonic() >= self._next_beat:
                    self._next_beat = time.monotonic() + BEAT_SECONDS
                    await loop.run_in_executor(None, self._beat)
                await loop.run_in_executor(None, self._keep_time)
            except Exception:
                # what is shown must never stop what is done
                log.exception("observation_failed")
            await asyncio.sleep(LOOK_SECONDS)

    def _beat(self) -> None:
        self._lag.refresh()
        beat = self._pulse.beat(self._lanes(), self.health.ready().ok)
        self._writer.put(f"worker.{self._pulse.worker}", beat)

    def _step_failed(self) -> None:
        """Find out whether it was for want of a right: an error of a transaction does not name the topic."""
        with self._asking:
            if time.monotonic() < self._next_asking:
                return
            self._next_asking = time.monotonic() + ASK_SECONDS
        # not in the lane's thread: a broker that is away does not answer this either
        asked = (self._admin, self._settings, self._catalogue.latest.catalogue)
        threading.Thread(target=tell_refused, args=asked, name="rights", daemon=True).start()

    def _planner_stepped(self) -> None:
        self._planner_stepped_at = time.time()

    def _keep_time(self) -> None:
        """Where the planner works: write the timeline's points and the plans that it makes."""
        now = time.time()
        if now - self._planner_stepped_at > 2 * LOOK_SECONDS or (overview := self.overview()) is None:
            return
        if keys := self._timekeeper.due(now):
            value = point(overview, now, self._lag.lag(self._view.records()).total)
            for key in keys:
                self._writer.put(f"point.{key}", value)
            self._forget_dead()
        plan = self._plans.latest
        if plan is not None and plan.version != self._told_version:
            self._told_version = plan.version
            self._writer.put(plan_key(plan.version), plan_summary(plan))

    def _forget_dead(self) -> None:
        for worker in self._status.forgotten():
            self._writer.put(f"worker.{worker}", None)

    def _planner_heard_at(self) -> float:
        """When the planner last worked, here or as its worker wrote down."""
        newest: dict[str, Any] | None = self._status.timeline.newest()
        plan = self._plans.latest
        written = (newest["at"] if newest else 0.0, plan.created_at if plan else 0.0)
        return max(self._planner_stepped_at, *written)
