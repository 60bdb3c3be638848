"""Traces: a span for each routed query that has a `traceparent` header.

Tracing is off unless the variable OTEL_TRACES_EXPORTER of OpenTelemetry names an exporter, such as otlp.
The router passes the header on unchanged either way, so that fleets continue the client's trace.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog

from routing.budgets.money import to_usd
from routing.policy.decision import DEFERRED
from streams.router.batch import (
    DecidedBatch,
)
from streams.router.outputs import prices_per_dollar

log = structlog.get_logger(__name__)

VARIABLE = "OTEL_TRACES_EXPORTER"
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""Exporter for each protocol of `otlp`; the extra `tracing` installs the first."""

CLOSE_SECONDS = 3.0
TRACE_HEADERS = ("traceparent", "tracestate")


class Tracing:
    """Creates spans of committed decisions.

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

    def committed(self, batch: DecidedBatch, at: float) -> None:
        """Create the spans of a batch that was committed at a time in seconds since the epoch."""
        for row, source in enumerate(batch.arrivals.records):
            if not source.headers:
                continue
            carrier = {
                name: value.decode("ascii", "replace")
                for name, value in source.headers
                if value and name in TRACE_HEADERS
            }
            context = self._propagator.extract(carrier)
            if self._span_of(context).get_span_context().is_valid:
                attributes = _attributes(batch, row)
                span = self._tracer.start_span(
                    f"route {attributes['port.outcome']}",
                    context,
                    self._consumer,
                    attributes,
                    start_time=source.timestamp * 1_000_000,
                )
                span.end(max(int(at * 1e9), source.timestamp * 1_000_000))

    def close(self) -> None:
        """Export the remaining spans, for at most `CLOSE_SECONDS`."""
        # an unreachable collector would delay the shutdown by half a minute
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def _attributes(batch: DecidedBatch, row: int) -> dict[str, str | int | float]:
    plan, source, i = batch.plan, batch.arrivals.records[row], int(batch.decisions.choice[row])
    attributes: dict[str, str | int | float] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "route",
        "messaging.destination.name": source.topic,
        "messaging.destination.partition.id": str(source.partition),
        "messaging.kafka.offset": source.offset,
        "messaging.message.id": batch.arrivals.queries[row].id,
        "port.plan": plan.version,
        "port.period": plan.period,
        "port.lane": batch.lane,
    }
    if i < 0:
        return {**attributes, "port.outcome": "deferred" if i == DEFERRED else "unserved"}
    return {
        **attributes,
        "port.outcome": "served",
        "port.model": plan.models[i],
        "port.quality": float(batch.estimates.quality[row, i]),
        "port.cost_dollars": float(to_usd(batch.decisions.charge[row])),
        "port.price_quality_per_dollar": float(prices_per_dollar(batch)[row]),
    }


def tracing(app_id: str, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Return tracing as configured by OpenTelemetry's variables; None if it is off or unavailable.

    Parameters
    ----------
    app_id : str
        Name of the service, unless OTEL_SERVICE_NAME is set.
    environment : mapping
    """
    requested = environment.get(VARIABLE, "").strip().lower()
    if requested in ("", "none"):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no_traces", reason="opentelemetry-sdk is not installed; install the extra `tracing`")
        return None
    if (exporter := _exporter(requested, environment)) is None:
        return None
    name = environment.get("OTEL_SERVICE_NAME") or app_id
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    # a batch processor has a thread of its own, and drops spans instead of blocking
    provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
    log.info("traces", exporter=requested)
    return Tracing(provider)


def _exporter(requested: str, environment: Mapping[str, str]) -> EntryPoint | None:
    """Return the exporter, or log that it is not installed and return None."""
    name, setting = requested, f"{VARIABLE}={requested}"
    if requested == "otlp":
        variable = next((one for one in PROTOCOL_VARIABLES if environment.get(one)), None)
        protocol = environment[variable].strip().lower() if variable is not None else "http/protobuf"
        name = PROTOCOLS.get(protocol, protocol)
        setting += f" with {variable}={protocol}" if variable is not None else f" ({protocol})"
    exporters = {point.name: point for point in entry_points(group="opentelemetry_traces_exporter")}
    if name not in exporters:
        installed = ", ".join(sorted(exporters))
        log.warning(
            "no_traces", reason=f"{setting}: no such exporter is installed; installed are {installed}"
        )
    return exporters.get(name)
