"""Metrics of the gateway for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class GatewayMetrics:
    """Counters of requests and their durations.

    Parameters
    ----------
    in_flight : callable
        Returns the number of requests in flight.
    """

    def __init__(self, in_flight: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "port_gateway_requests",
            "Requests by route and status; status 499: the caller went away.",
            ["route", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "port_gateway_request_seconds",
            "Time from a request to its response.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        gauge = Gauge(
            "port_gateway_in_flight_requests", "Requests without a response.", registry=self._registry
        )
        gauge.set_function(in_flight)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count a finished request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
