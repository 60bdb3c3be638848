"""What the page asks for, as plain data: the cluster's state, its past, its plans and its dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from streams.beats import merged_percentiles
from streams.cluster import LedgerView
from streams.health import Health
from streams.lag import LagReader
from streams.overview import Overview
from streams.settings import Settings
from streams.status import StatusReader
from streams.web.dead_letters import DeadLetters

SHOWN_SETTINGS = (
    "app_id", "partitions", "preset", "horizon", "period_seconds", "eps", "warmup", "resolve", "solver",
    "reserve", "exploration", "settle_seconds", "topic_prefix",
)  # fmt: skip
HOURS = 24


class Answers:
    """Answers the page's questions.

    Parameters
    ----------
    settings : Settings
    worker : str
        The name of the worker that is asked.
    overview : callable
        The period over all lanes, None before there is a plan.
    view : LedgerView
    lag : LagReader
    status : StatusReader
    letters : DeadLetters
    health : Health
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        overview: Callable[[], Overview | None],
        view: LedgerView,
        lag: LagReader,
        status: StatusReader,
        letters: DeadLetters,
        health: Health,
    ) -> None:
        self._settings, self._worker, self._overview = settings, worker, overview
        self._view, self._lag, self._status = view, lag, status
        self._letters, self._health = letters, health

    def by_name(self) -> dict[str, Callable[[], Any]]:
        """Each answer by the last part of its address."""
        return {
            "state": self.state,
            "timeline": self.timeline,
            "plans": self._status.plans,
            "dead-letters": self._letters.newest,
        }

    def state(self) -> dict[str, Any]:
        """Everything that changes by the second."""
        overview, records = self._overview(), self._view.records()
        lag, workers = self._lag.lag(records), self._status.workers()
        lanes = []
        for lane, record in sorted(records.items()):
            pool = lane == self._settings.partitions
            lanes.append(
                {
                    "lane": lane,
                    "name": "overflow" if pool else str(lane),
                    "lag": lag.by_lane.get(lane),
                    "next": record.next,
                    "period": record.account.period,
                    "arrived": record.account.arrived,
                    "version": record.version,
                    "written_at": record.written_at,
                }
            )
        return {
            "now": time.time(),
            "worker": self._worker,
            "settings": {name: getattr(self._settings, name) for name in SHOWN_SETTINGS},
            "overview": None if overview is None else asdict(overview),
            "lanes": lanes,
            "lag": {"total": lag.total, "worst": lag.worst},
            "dead_letters": lag.dead_letters,
            "workers": [{k: v for k, v in worker.items() if k != "seconds"} for worker in workers],
            "percentiles": merged_percentiles(worker for worker in workers if not worker["silent"]),
            "ready": self._health.ready().to_dict(),
        }

    def timeline(self) -> list[dict[str, Any]]:
        """The current period's past, but a day at most and an hour at least."""
        now = time.time()
        overview = self._overview()
        begun = overview.began_at if overview is not None else now
        start = max(now - HOURS * 3600, min(begun, now - 3600))
        return self._status.timeline.since(start)
