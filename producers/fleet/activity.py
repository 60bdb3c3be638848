"""Health and metrics of one fleet worker: its progress, its queries in flight, and its requests."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from itertools import accumulate
from typing import Any

import httpx2
import openai
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from producers.fleet.messages import Tokens
from streams.telemetry.health import HealthCheck, HealthReport

STALL_SECONDS = 120.0
"""Time without progress, in addition to the drain time, after which a worker is unhealthy.

A rebalance takes as long as the slowest member, and a commit can wait for another transaction to time out."""

GAUGES = {
    "poll_age_seconds": "Seconds since the worker last polled its topic.",
    "commit_age_seconds": "Seconds since the last commit, or since the start.",
    "in_flight_queries": "Queries that are being answered.",
    "oldest_in_flight_seconds": "Age of the oldest query in flight in seconds; 0 without any.",
    "uncommitted_answers": "Answers that are not committed yet.",
    "oldest_uncommitted_seconds": "Age of the oldest uncommitted answer in seconds; 0 without any.",
    "assigned_partitions": "Partitions assigned to this worker.",
}
ANSWER_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper ends of the histogram of the time to answer."""
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "queries": (
        "Queries that were answered, failed with an error, were returned, or had expired.",
        ("result",),
    ),
    "requests": ("Requests by HTTP status, or by the reason why there is none.", ("status",)),
    "attempts": ("Requests for queries that were answered, or failed with an error.", ()),
    "tokens": ("Tokens that the endpoint counted.", ("kind",)),
    "cost_dollars": ("Cost of the queries in USD.", ()),
}
RESULTS, KINDS = ("answered", "failed", "returned", "expired"), ("prompt", "completion")
PREFIX = "port_fleet_"


class FleetActivity(Collector):
    """Progress, health and metrics of one worker. Its methods are thread-safe.

    Parameters
    ----------
    model : str
        Name of the LLM, a label of all metrics.
    stall_seconds : float
        Time without progress after which the worker is unhealthy.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        model: str,
        stall_seconds: float = STALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._stall_seconds, self._clock = model, stall_seconds, clock
        self._polled_at = self._committed_at = clock()
        self._in_flight: dict[Hashable, float] = {}
        self._uncommitted: dict[Hashable, float] = {}
        self._partitions: int | None = None
        self._away_since: float | None = clock()
        self._seconds_counts, self._seconds_sum = [0] * (len(ANSWER_SECONDS) + 1), 0.0
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTERS}
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(namespace="port_fleet", registry=self.registry)

    # ---- reports of the worker ---------------------------------------------------------------------------

    def polled(self, partitions: int | None) -> None:
        """Record a poll; `partitions` is the number assigned, None while the worker is not a group member."""
        self._polled_at, self._partitions = self._clock(), partitions
        if partitions is not None:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = self._polled_at

    def committed(self) -> None:
        """Record a committed transaction."""
        self._committed_at = self._clock()

    def started(self, place: Hashable) -> None:
        """Record a query that is now in flight."""
        self._in_flight[place] = self._clock()

    def ended(self, place: Hashable) -> None:
        """Record that a query is no longer in flight."""
        self._in_flight.pop(place, None)

    def uncommitted(self, places: Iterable[Hashable]) -> None:
        """Record the answers that are not committed yet."""
        now, since = self._clock(), self._uncommitted
        self._uncommitted = {place: since.get(place, now) for place in places}

    def ended_with(
        self, result: str, tokens: Tokens, usd: float, seconds: float | None = None, attempts: int = 0
    ) -> None:
        """Record the result of a query, one of `RESULTS`, its requests, and the seconds to its answer."""
        if seconds is not None:
            self._seconds_counts[bisect_left(ANSWER_SECONDS, seconds)] += 1
            self._seconds_sum += seconds
        self._counts["attempts"][""] += attempts
        self._counts["queries"][result] += 1
        self._counts["tokens"]["prompt"] += tokens.prompt
        self._counts["tokens"]["completion"] += tokens.completion
        self._counts["cost_dollars"][""] += usd  # type: ignore[assignment]

    def requested(self, status: str) -> None:
        """Record the end of a request."""
        self._counts["requests"][status] += 1

    # ---- health and metrics ------------------------------------------------------------------------------

    def health(self) -> HealthReport:
        """Check whether the worker makes progress."""
        now, limit = self._clock(), self._stall_seconds
        away = now - self._away_since if self._away_since is not None else 0.0
        ages = {
            "poll": (now - self._polled_at, "since the topic was polled"),
            "commit": (_oldest(self._uncommitted, now), "that an answer has waited for its commit"),
            "group": (away, "without membership of the consumer group"),
        }
        return HealthReport(
            tuple(
                HealthCheck(name, age <= limit, f"{age:.1f} s {text}; limit {limit:g} s")
                for name, (age, text) in ages.items()
            )
        )

    def readiness(self) -> HealthReport:
        """Check whether the worker can take queries: it is a member of the group, and makes progress."""
        member = self._partitions is not None
        detail = f"{self._partitions} partitions" if member else "not a member of the consumer group yet"
        return HealthReport((HealthCheck("assigned", member, detail), *self.health().checks))

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[Any]:
        """Return nothing, so that registration collects no metrics."""
        return []

    def collect(self) -> Iterable[Any]:
        """Return all metric families."""
        now, in_flight, uncommitted = self._clock(), self._in_flight, self._uncommitted
        gauges = {
            "poll_age_seconds": now - self._polled_at,
            "commit_age_seconds": now - self._committed_at,
            "in_flight_queries": len(in_flight),
            "oldest_in_flight_seconds": _oldest(in_flight, now),
            "uncommitted_answers": len(uncommitted),
            "oldest_uncommitted_seconds": _oldest(uncommitted, now),
            "assigned_partitions": self._partitions or 0,
        }
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=["model"])
            gauge.add_metric([self._model], gauges[name])
            yield gauge
        # export zeros, because Prometheus sees no increase in a series that begins with its first event
        zeros = {"attempts": ("",), "queries": RESULTS, "tokens": KINDS, "cost_dollars": ("",)}
        for name, (text, labels) in COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, text, labels=["model", *labels])
            counts = dict.fromkeys(zeros.get(name, ()), 0) | dict(self._counts[name])
            for label, number in counts.items():
                counter.add_metric([self._model, label] if labels else [self._model], number)
            yield counter
        yield self._answer_seconds()

    def _answer_seconds(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            PREFIX + "answer_seconds", "Seconds from a query's first request to its answer.", labels=["model"]
        )
        edges = [*(f"{edge:g}" for edge in ANSWER_SECONDS), "+Inf"]
        buckets = list(zip(edges, accumulate(self._seconds_counts), strict=True))
        family.add_metric([self._model], buckets, self._seconds_sum)
        return family


def _oldest(since: dict[Hashable, float], now: float) -> float:
    return max((now - began for began in list(since.values())), default=0.0)


class CountingHttpClient(openai.DefaultAsyncHttpxClient):
    """HTTP client that reports how each request ended.

    Parameters
    ----------
    requested : callable
        Called with the HTTP status, or with `timeout`, `no_response` or `cancelled`. A request is cancelled
        by its time limit or by the end of the worker.
    """

    def __init__(self, requested: Callable[[str], None]) -> None:
        super().__init__()
        self._requested = requested

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request."""
        status = "no_response"
        try:
            response = await super().send(request, **options)
            status = str(response.status_code)
            return response
        except httpx2.TimeoutException:
            status = "timeout"
            raise
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            self._requested(status)
