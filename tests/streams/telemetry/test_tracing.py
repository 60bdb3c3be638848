"""Traces."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from structlog.testing import capture_logs

from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.account import Account
from routing.policy.policy import RoutingDecisions
from streams.messages.query import decode_query
from streams.router.batch import (
    DecidedBatch,
    IntakeBatch,
)
from streams.router.query_terms import BatchTerms
from streams.telemetry.tracing import CLOSE_SECONDS, Tracing, tracing
from tests.streams.sample_cluster import USD, ints, make_plan

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def decided(*headers: list[tuple[str, bytes]] | None) -> DecidedBatch:
    """Three queries: to the first LLM, to the overflow lane, to none."""
    records = [
        SimpleNamespace(topic="queries", partition=1, offset=i, timestamp=1_700_000_000_000 + i, headers=h)
        for i, h in enumerate(headers)
    ]
    queries = [decode_query(f'{{"id": "q{i}", "prompt": "?"}}'.encode(), None) for i in range(len(records))]
    n = len(records)
    estimates = Estimates(np.full((n, 2), 0.75), np.full((n, 2), 0.5))
    choice = np.array([0, -2, -1][:n])
    charge, none = ints(*[USD // 2, 0, 0][:n]), np.full(n, -1)
    routed = RoutingDecisions(
        choice, charge, np.zeros((n, 2)), Account.fresh(3, 2), np.zeros(n, np.int64), none
    )
    arrivals = IntakeBatch(records, queries, estimates)  # type: ignore[arg-type]
    nothing = np.zeros((n, 2), np.int64)
    available = np.zeros(nothing.shape[1], np.int64)
    terms = BatchTerms(QueryTerms(), make_plan().models)
    return DecidedBatch(
        make_plan(),
        1,
        arrivals,
        estimates,
        nothing,
        routed,
        np.arange(n),
        [None] * n,
        available,
        terms,
        estimates,
    )


def spans(batch: DecidedBatch):
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed (extra `tracing`)")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracing(provider).committed(batch, at=1_700_000_000.5)
    return exporter.get_finished_spans()


def test_span_of_a_traced_query_has_the_clients_span_as_parent():
    parent = [("traceparent", f"00-{TRACE}-{SPAN}-01".encode()), ("other", b"x")]
    created = spans(decided(parent, parent, parent))

    assert {f"{span.context.trace_id:032x}" for span in created} == {TRACE}
    assert {f"{span.parent.span_id:016x}" for span in created} == {SPAN}
    served, deferred, unserved = created
    assert (served.attributes["port.model"], served.attributes["port.cost_dollars"]) == ("small", 0.5)
    assert served.attributes["messaging.message.id"] == "q0"
    assert (served.start_time, served.end_time) == (1_700_000_000 * 10**9, 1_700_000_000_500_000_000)
    assert [span.attributes["port.outcome"] for span in (deferred, unserved)] == ["deferred", "unserved"]


@pytest.mark.parametrize(
    "header", [None, [], [("traceparent", f"00-{TRACE}-{SPAN}-00".encode())], [("trace", b"00")]]
)
def test_queries_without_a_trace_create_no_spans(header: list[tuple[str, bytes]] | None):
    assert spans(decided(header)) == ()


def test_invalid_trace_header_creates_no_span():
    for value in (b"\xff\xfe", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"x" * 100_000):
        assert spans(decided([("traceparent", value)])) == ()


def test_tracing_with_a_missing_exporter_is_off_and_logged():
    assert tracing("port", {}) is None
    assert tracing("port", {"OTEL_TRACES_EXPORTER": "none"}) is None
    assert tracing("port", {"OTEL_TRACES_EXPORTER": "nothing-of-the-kind"}) is None


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    """Something that takes what is sent to OpenTelemetry's endpoint: paths and bodies."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="extra `tracing` is not installed")
    requests: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield requests
        server.shutdown()


def test_spans_reach_the_collector(collector: list[tuple[str, bytes]]):
    traces = tracing("my-router", {"OTEL_TRACES_EXPORTER": "otlp"})
    assert traces is not None
    traces.committed(decided([("traceparent", f"00-{TRACE}-{SPAN}-01".encode())]), at=1_700_000_000.5)
    traces.close()

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    ((path, body),) = collector
    (received,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (span,) = received.scope_spans[0].spans
    assert path == "/v1/traces"
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("route served", TRACE, SPAN)
    service = {attribute.key: attribute.value.string_value for attribute in received.resource.attributes}
    assert service["service.name"] == "my-router"


def test_close_with_an_unreachable_collector_is_bounded(
    collector: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("streams.telemetry.tracing.CLOSE_SECONDS", 0.2)
    traces = tracing("port", {"OTEL_TRACES_EXPORTER": "otlp"})
    assert traces is not None
    traces.committed(decided([("traceparent", f"00-{TRACE}-{SPAN}-01".encode())]), at=1_700_000_000.5)
    began = time.monotonic()
    traces.close()
    assert time.monotonic() - began < CLOSE_SECONDS


def test_tracing_with_a_protocol_that_is_not_installed_is_logged():
    pytest.importorskip("opentelemetry.sdk", reason="extra `tracing` is not installed")
    variables = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}
    with capture_logs() as logs:
        assert tracing("port", variables) is None
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/json: no such exporter is installed" in logs[0]["reason"]
