"""Metrics."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.lanes.unreadable import Unreadable
from streams.telemetry.cluster_summary import summarise_cluster
from streams.telemetry.histogram import SECONDS
from streams.telemetry.lag import Lag
from streams.telemetry.metrics import MODEL_COUNTERS, Metrics, Sources, names
from streams.telemetry.topic_monitor import Deleted, TopicState
from tests.streams.sample_cluster import (
    USD,
    ints,
    make_account,
    make_ledger,
    make_ledgers,
    make_plan,
    make_shared_ledgers,
    make_shared_plan,
)


def make_metrics() -> Metrics:
    return Metrics(
        Sources(
            overview=lambda: summarise_cluster(make_plan(), make_ledgers(), 1100.0),
            lag=lambda: Lag({0: 5, 1: 40, 2: 0}),
            dead_letters=lambda: {"queries": 3, "outcomes": 0},
            lanes=lambda: None,
            ready=lambda: True,
            planner_heard_at=lambda: 1e9,
            topics=lambda: TopicState({"queries": 2}, 20),
            deleted=lambda: {"queries": Deleted(10, 1e9), "outcomes": Deleted()},
        )
    )


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    values = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            values[sample.name, tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return values


def test_metrics_names_equal_the_exported_series():
    metrics = make_metrics()
    record = make_ledgers()[0]
    lapsed = replace(record, account=replace(record.account, lapsed=ints(1, 0)))
    metrics.committed(replace(record, account=make_account(), outcomes={}, reported={}), lapsed)
    exported = {name for name, _ in samples(metrics)}

    own = {name for name in exported if not name.startswith("port_process_")}
    assert own <= names()
    # a worker without lanes has none of these
    without_groups = {"port_budget_values"}
    assert names() - own == {"port_lane_pending_queries", "port_lane_unreadable_ratio"} | without_groups
    assert all(name.startswith("port_") for name in exported)


def test_values_of_budgets_have_a_bounded_number_of_series():
    overview = summarise_cluster(make_shared_plan(), make_shared_ledgers(), 0.0)
    values = samples(
        Metrics(Sources(lambda: overview, lambda: Lag({}), lambda: None, lambda: True, lambda: 0.0))
    )

    used = {labels: value for (name, labels), value in values.items() if name == "port_budget_used_ratio"}
    assert set(used) == {("few", ""), ("team", "*"), ("team", "ads"), ("team", "search"), ("total", "")}
    assert used["team", "search"] == pytest.approx(0.8)
    assert values["port_budget_spent_units", ("team", "search")] == pytest.approx(5.0)
    assert values["port_budget_reserved_units", ("team", "search")] == pytest.approx(3.0)
    assert values["port_budget_limit_units", ("team", "*")] == pytest.approx(42.0)
    assert values["port_budget_values", ("team",)] == 44


def test_counters_after_a_transaction_equal_its_changes():
    metrics, records = make_metrics(), make_ledgers()
    before = records[0]
    account = replace(
        before.account,
        arrived=35,
        unserved=4,
        served=ints(22, 8),
        charged=ints(4 * USD, 5 * USD),
        reserved=ints(7 * USD, 5 * USD),
        settled=ints(4 * USD, 0),
        settlements=ints(13, 0),
    )
    after = replace(before, account=account, outcomes={"settled": 13, "late": 1, "duplicate": 2})
    metrics.committed(before, after)
    values = samples(metrics)

    assert values["port_queries_total", ("small", "served")] == 2
    assert values["port_queries_total", ("vendor/large", "served")] == 1
    assert values["port_queries_total", ("", "unserved")] == 1
    assert values["port_queries_total", ("", "dead")] == 0
    assert values["port_reservations_dollars_total", ("small",)] == 3
    assert values["port_settlements_dollars_total", ("small",)] == 2
    assert values["port_settlements_total", ("small",)] == 1
    # 3 were reserved and only 1 more is charged: what settled for 2 had reserved 4
    assert values["port_settled_reservations_dollars_total", ("small",)] == 4
    assert values["port_outcomes_total", ("settled",)] == 1
    assert values["port_outcomes_total", ("duplicate",)] == 2
    assert ("port_queries_total", ("", "served")) not in values


def test_counters_of_planned_llms_begin_at_zero():
    """Prometheus sees no increase in a series that appears with its first event."""
    values = samples(make_metrics())
    for name in MODEL_COUNTERS:
        assert (
            values[f"port_{name}_total", ("small",)] == values[f"port_{name}_total", ("vendor/large",)] == 0
        )
    assert values["port_queries_total", ("vendor/large", "served")] == 0
    assert {"lapsed_reservations", "settlements_dollars", "reported_answers"} <= set(MODEL_COUNTERS)


def test_counters_without_a_plan_have_no_llms():
    metrics = Metrics(Sources(lambda: None, Lag, lambda: None, lambda: True, lambda: 0.0))
    assert not [key for key in samples(metrics) if key[0] == "port_lapsed_reservations_total"]


def test_counters_continue_over_the_end_of_a_period():
    metrics = make_metrics()
    old = make_account(3, arrived=10, served=ints(10, 0), reserved=ints(USD, 0), charged=ints(USD, 0))
    last = replace(old, arrived=12, served=ints(12, 0))
    fresh = make_account(4, arrived=5, served=ints(4, 0), unserved=1)
    metrics.committed(make_ledger(0, old), make_ledger(0, fresh, closed=last))
    # a late outcome of the closed period, and one of it when another has begun
    for period in (4, 5):
        now = replace(fresh, period=period)
        late = replace(last, settled=last.settled + ints(USD // 2, 0), charged=ints(USD // 2, 0))
        metrics.committed(make_ledger(0, now, closed=last), make_ledger(0, now, closed=late))
        last = late
    values = samples(metrics)

    assert values["port_queries_total", ("small", "served")] == 2 + 4
    assert values["port_queries_total", ("", "unserved")] == 1
    assert values["port_settlements_dollars_total", ("small",)] == 1.0


def test_gauges_equal_the_cluster_summary():
    values = samples(make_metrics())

    assert values["port_budget_dollars", ("vendor/large",)] == 20
    assert values["port_left_dollars", ("small",)] == 6
    assert values["port_plan_version", ()] == 7
    assert values["port_period_progress_ratio", ()] == pytest.approx(0.41)
    assert values["port_lag_queries", ()] == 45
    assert values["port_lag_worst_queries", ()] == 40
    assert values["port_dead_letters", ("queries",)] == 3
    assert values["port_cost_error_ratio", ("small",)] == pytest.approx(-1 / 3)
    assert values["port_unanswered_queries", ("small",)] == 18
    assert values["port_oldest_unanswered_seconds", ("vendor/large",)] == 0
    assert values["port_up_ratio", ()] == 1


class LaneWithOpenReservations:
    topic, partition, pending = "queries", 0, ()

    def __init__(self, assigned: bool, **since: float) -> None:
        self.assigned = assigned
        self.processor = SimpleNamespace(oldest_open=since)


def test_oldest_unanswered_covers_the_lanes_of_this_worker():
    now = time.time()
    lanes = {
        ("queries", 0): LaneWithOpenReservations(True, small=now - 60),
        ("queries", 1): LaneWithOpenReservations(True, small=now - 400),
        ("queries", 2): LaneWithOpenReservations(False, small=now - 9000),
        ("router.samples", 0): SimpleNamespace(
            topic="router.samples", partition=0, pending=(), assigned=True, processor=object()
        ),
    }
    made_up: Any = SimpleNamespace(all=lanes, events={})
    overview = lambda: summarise_cluster(make_plan(), make_ledgers(), 1100.0)  # noqa: E731
    values = samples(Metrics(Sources(overview, Lag, lambda: made_up, lambda: True, lambda: 0.0)))

    assert 400 <= values["port_oldest_unanswered_seconds", ("small",)] < 9000
    assert values["port_oldest_unanswered_seconds", ("vendor/large",)] == 0


def test_histograms_record_stages_latencies_and_solves():
    metrics = make_metrics()
    metrics.stage("intake", 0.004, 10)
    metrics.stage("commit", 0.02, 10)
    metrics.stage("commit", 0.02, 0)  # nothing was in it
    metrics.stage("solve", 0.5, 0)
    metrics.latencies(np.array([0.05, 0.5, -0.001]))
    values = samples(metrics)

    assert values["port_stage_seconds_count", ("commit",)] == 1
    assert values["port_batch_queries_sum", ()] == 10
    assert values["port_planner_solves_total", ()] == 1
    assert values["port_latency_seconds_count", ()] == 3
    assert values["port_latency_seconds_bucket", ("0.1",)] == 2


def test_labels_are_bounded():
    metrics = make_metrics()
    for number in range(50):
        metrics.stage(f"made-up-{number}", 0.1, 1)
    assert len([key for key in samples(metrics) if key[0] == "port_stage_seconds_count"]) <= 10
    assert len(SECONDS) == 81


def test_lane_unreadable_marks_an_unreadable_lane():
    lanes = {("queries", number): SimpleNamespace(assigned=number < 2, pending=[]) for number in range(3)}
    metrics = Metrics(
        Sources(
            lambda: None,
            Lag,
            lambda: SimpleNamespace(all=lanes, events={}),
            lambda: True,
            lambda: 0.0,  # type: ignore[arg-type, return-value]
            lambda: {("queries", 1): Unreadable(40, 44, "damaged")},
        )
    )
    values = samples(metrics)
    marked = {labels: values[name, labels] for name, labels in values if name == "port_lane_unreadable_ratio"}
    assert marked == {("queries:0",): 0, ("queries:1",): 1}
