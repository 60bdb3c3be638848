"""Data of the page: state and timeline of the cluster, plans, bills and dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from routing.planning.sample_size import few_samples
from streams.config.planning_settings import planning_settings
from streams.config.settings import Settings
from streams.kafka.broker_watch import BrokerWatch
from streams.ledger.period_reader import PeriodReader
from streams.ledger.view import LedgerView
from streams.operations.period_bills import bill_of
from streams.telemetry.budget_summary import BudgetFigures
from streams.telemetry.cluster_summary import ClusterSummary
from streams.telemetry.health import Health
from streams.telemetry.heartbeat import merged_percentiles
from streams.telemetry.lag import LagReader
from streams.telemetry.status_topic import StatusReader
from streams.telemetry.unanswered import earliest
from streams.web.recent_dead_letters import RecentDeadLetters
from streams.web.recent_plans import RecentPlans

SHOWN_SETTINGS = (
    "app_id",
    "partitions",
    "preset",
    "horizon",
    "period_seconds",
    "eps",
    "warmup",
    "resolve",
    "solver",
    "reserve",
    "exploration",
    "settle_seconds",
    "topic_prefix",
)
HIDDEN_FIELDS = ("seconds", "oldest_open")
"""Fields of a heartbeat that the page shows for the whole cluster instead."""

MAX_TIMELINE_HOURS = 24


class PageApi:
    """Answers the page's requests.

    Parameters
    ----------
    settings : Settings
    worker : str
        Name of this worker.
    overview : callable
        Returns the current period over all lanes, or None before there is a plan.
    view : LedgerView
    lag : LagReader
    status : StatusReader
    plans : RecentPlans
    letters : RecentDeadLetters
    periods : PeriodReader
    health : Health
    broker : BrokerWatch
    figures : callable
        Returns the figures of every counter, or None before there is a plan.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        overview: Callable[[], ClusterSummary | None],
        view: LedgerView,
        lag: LagReader,
        status: StatusReader,
        plans: RecentPlans,
        letters: RecentDeadLetters,
        periods: PeriodReader,
        health: Health,
        broker: BrokerWatch,
        figures: Callable[[], BudgetFigures | None],
    ) -> None:
        self._settings, self._worker, self._overview = settings, worker, overview
        self._view, self._lag, self._status = view, lag, status
        self._plans, self._letters, self._periods = plans, letters, periods
        self._health, self._broker, self._figures = health, broker, figures

    def by_name(self) -> dict[str, Callable[[], Any]]:
        """Return the methods by the last part of their address."""
        return {
            "state": self.state,
            "timeline": self.timeline,
            "plans": self._plans.by_version,
            "dead-letters": self._letters.newest,
            "periods": self.periods,
        }

    def state(self) -> dict[str, Any]:
        """Return the current state of the cluster."""
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
            "few_samples": None if overview is None else self._few_samples(overview),
            "lanes": lanes,
            "lag": {"total": lag.total, "worst": lag.worst},
            "dead_letters": self._periods.dead_letters(records),
            "oldest_open": earliest(w.get("oldest_open", {}) for w in workers if not w["silent"]),
            "workers": [{k: v for k, v in w.items() if k not in HIDDEN_FIELDS} for w in workers],
            "percentiles": merged_percentiles(worker for worker in workers if not worker["silent"]),
            "ready": self._health.ready().to_dict(),
            "broker_away_since": self._broker.away_since,
        }

    def periods(self) -> list[dict[str, Any]]:
        """Return the bills of the newest periods, the oldest first."""
        return [bill_of(summary) for summary in self._periods.newest()]

    def values(self, budget: str, text: str) -> list[dict[str, Any]]:
        """Return the values of a budget that contain a text, those of the largest share first."""
        figures = self._figures()
        return [] if figures is None else [asdict(one) for one in figures.search(budget, text)]

    def _few_samples(self, overview: ClusterSummary) -> str | None:
        active = sum(model.active for model in overview.models)
        return few_samples(planning_settings(self._settings), active)

    def timeline(self) -> list[dict[str, Any]]:
        """Return the points of the current period, at least of an hour and at most of a day."""
        now = time.time()
        overview = self._overview()
        began_at = overview.began_at if overview is not None else now
        start = max(now - MAX_TIMELINE_HOURS * 3600, min(began_at, now - 3600))
        return self._status.timeline.since(start)
