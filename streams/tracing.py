"""Traces, where somebody wants them: a span for each routed query that came with a `traceparent` header.

Off unless OpenTelemetry's own variable OTEL_TRACES_EXPORTER names an exporter, such as otlp or console. The
header itself goes on untouched either way, so that fleets continue the trace of who asked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog

from routing.decision import DEFERRED
from routing.money import to_usd
from streams.posting import Decided

log = structlog.get_logger(__name__)

VARIABLE = "OTEL_TRACES_EXPORTER"
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""`otlp` is no exporter's name; which one is meant, its protocol says. The extra brings the first."""

CLOSE_SECONDS = 3.0
CARRIED = ("traceparent", "tracestate")


class Tracing:
    """Makes spans out of decisions that are committed.

    Parameters
    ----------
    provider : opentelemetry.sdk.trace.TracerProvider
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("port-router")
        self._propagator = TraceContextTextMapPropagator()
        self._consumer, self._span_of = trace.SpanKind.CONSUMER, trace.get_current_span

    def committed(self, decided: Decided, at: float) -> None:
        """A batch was committed, at a time in seconds since the epoch."""
        for row, source in enumerate(decided.arrivals.records):
            if not source.headers:
                continue
            carrier = {name: value.decode("ascii", "replace") for name, value in source.headers if value
                       and name in CARRIED}  # fmt: skip
            context = self._propagator.extract(carrier)
            if self._span_of(context).get_span_context().is_valid:
                attributes = _attributes(decided, row)
                span = self._tracer.start_span(
                    f"route {attributes['port.outcome']}", context, self._consumer, attributes,
                    start_time=source.timestamp * 1_000_000,
                )  # fmt: skip
                span.end(max(int(at * 1e9), source.timestamp * 1_000_000))

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        # with a collector that is away it would try again for half a minute, as long as a worker has to stop
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def _attributes(decided: Decided, row: int) -> dict[str, str | int | float]:
    plan, source, i = decided.plan, decided.arrivals.records[row], int(decided.routed.choice[row])
    found: dict[str, str | int | float] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "route",
        "messaging.destination.name": source.topic,
        "messaging.destination.partition.id": str(source.partition),
        "messaging.kafka.offset": source.offset,
        "messaging.message.id": decided.arrivals.queries[row].id,
        "port.plan": plan.version,
        "port.period": plan.period,
        "port.lane": decided.lane,
    }
    if i < 0:
        return {**found, "port.outcome": "deferred" if i == DEFERRED else "unserved"}
    return {
        **found,
        "port.outcome": "served",
        "port.model": plan.models[i],
        "port.quality": float(decided.estimates.quality[row, i]),
        "port.cost_dollars": float(to_usd(decided.routed.charge[row])),
        "port.price_quality_per_dollar": float(plan.prices[i]),
    }


def tracing(app_id: str, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Traces as OpenTelemetry's variables want them; None where they want none, or where they cannot be had.

    Parameters
    ----------
    app_id : str
        The service's name, unless OTEL_SERVICE_NAME says another.
    environment : mapping
    """
    wanted = environment.get(VARIABLE, "").strip().lower()
    if wanted in ("", "none"):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no_traces", reason="opentelemetry-sdk is not installed; install the extra `tracing`")
        return None
    if (found := _exporter(wanted, environment)) is None:
        return None
    name = environment.get("OTEL_SERVICE_NAME") or app_id
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    # a batch processor has a thread of its own, and drops spans rather than wait
    provider.add_span_processor(BatchSpanProcessor(found.load()()))
    log.info("traces", exporter=wanted)
    return Tracing(provider)


def _exporter(wanted: str, environment: Mapping[str, str]) -> EntryPoint | None:
    """The exporter that is meant; None, and told, where it is not installed."""
    name, given = wanted, f"{VARIABLE}={wanted}"
    if wanted == "otlp":
        variable = next((one for one in PROTOCOL_VARIABLES if environment.get(one)), None)
        protocol = environment[variable].strip().lower() if variable is not None else "http/protobuf"
        name = PROTOCOLS.get(protocol, protocol)
        given += f" with {variable}={protocol}" if variable is not None else f" ({protocol})"
    exporters = {point.name: point for point in entry_points(group="opentelemetry_traces_exporter")}
    if name not in exporters:
        there = ", ".join(sorted(exporters))
        log.warning("no_traces", reason=f"{given}: no such exporter is installed; there are {there}")
    return exporters.get(name)
