"""Alerts of budgets: thresholds and forecasts, once for each counter and period, whoever plans."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from jsonschema import Draft202012Validator

from streams.ledger.period_summary import CounterTotal, PeriodSummary
from streams.messages.budget_event import EXHAUSTION, BudgetEvent
from streams.messages.json_schemas import message_schema
from streams.planner.budget_alerts import BudgetAlerts
from tests.streams.planner.memory_cluster import MemoryCluster
from tests.streams.sample_cluster import MODELS, USD, make_plan

PLAN = make_plan(period=1, horizon=1000, began_at=0.0, budgets=np.array([10 * USD, 20 * USD]))
SUMMARY = PeriodSummary(
    period=1,
    closed=False,
    settling=True,
    models=MODELS,
    budgets=[10 * USD, 20 * USD],
    reserved=[0, 0],
    settled=[0, 0],
    charged=[0, 0],
    served=[0, 0],
    settlements=[0, 0],
    lapsed=[0, 0],
    arrived=0,
    unserved=0,
    deferred=0,
    dead=0,
)


class Watched:
    """One period's alerts as the bill keeps them."""

    def __init__(self) -> None:
        self.alerts, self.known = BudgetAlerts(), dict[str, list[str]]()

    def at(self, arrived: int, *charged: float) -> list[BudgetEvent]:
        """Return the events at a number of queries, with USD charged to each LLM."""
        amounts = [round(amount * USD) for amount in charged]
        bill = replace(SUMMARY, arrived=arrived, charged=amounts)
        self.known, events = self.alerts.update(bill, self.known, PLAN, 5.0)
        return events


def names(events: list[BudgetEvent]) -> list[tuple[str, Any]]:
    return [(event.budget, event.threshold or event.event) for event in events]


def test_thresholds_are_reported_once() -> None:
    watched, (a, b) = Watched(), MODELS
    assert names(watched.at(50, 4.9, 0)) == []
    assert names(watched.at(500, 5.0, 16.0)) == [(a, 0.5), (b, 0.5), (b, 0.8), (b, EXHAUSTION)]
    assert names(watched.at(501, 4.0, 15.0)) == []
    assert names(watched.at(960, 9.9, 19.7)) == [(a, 0.8), (a, 1.0)]
    assert watched.known == {a: ["50", "80", "100"], b: ["50", "80", EXHAUSTION]}


def test_a_budget_that_ends_early_at_the_present_rate_is_forecast_once() -> None:
    watched = Watched()
    # Evenly: both would end with the period.
    for arrived in range(0, 301, 20):
        assert watched.at(arrived, arrived / 100, arrived / 50) == []
    # Then the first LLM is charged ten times as fast.
    (event,) = [
        event
        for at in range(310, 390, 10)
        for event in watched.at(at, 3 + (at - 300) / 10, at / 50)
        if event.event == EXHAUSTION
    ]
    assert event.budget == MODELS[0]
    assert event.exhausted_at is not None
    assert event.progress < event.exhausted_at < 0.95


def test_after_a_failover_the_rate_counts_from_the_beginning_of_the_period() -> None:
    (event,) = [event for event in Watched().at(400, 4.9, 4.0) if event.event == EXHAUSTION]
    assert event.exhausted_at == pytest.approx(400 / 1000 / 0.49)


def test_events_fit_the_schema() -> None:
    schema = Draft202012Validator(message_schema("budget-event"))
    events = Watched().at(400, 9.0, 19.9)
    assert {event.event for event in events} == {"used", "exhaustion"}
    for event in events:
        assert not list(schema.iter_errors(orjson.loads(event.encode())))
    assert not schema.is_valid({"event": "used"})


def test_values_are_watched_and_rates_are_not() -> None:
    from routing.budgets.budget import Budget
    from routing.planning.planner import Planner
    from routing.planning.schedule import PlanningSettings

    budgets = (
        Budget("team", group_by="metadata.team", limits={"a": 1.0}),
        Budget("rate", "queries", limit=5, per="minute"),
    )
    plan = Planner(PlanningSettings(horizon=100), MODELS, budgets).start_period()
    counters = [
        CounterTotal("team", "a", "usd", USD, {}, USD),
        CounterTotal("team", "", "usd", 0, {}, 0),
        CounterTotal("rate", None, "queries", 5, {}, 5),
    ]
    summary = replace(SUMMARY, budgets=None, counters=counters, arrived=99)
    alerts, events = BudgetAlerts().update(summary, {}, plan, 0.0)
    assert alerts == {"team=a": ["50", "80", "100"]}
    assert [event.key for event in events] == [b"team=a"] * 3


def test_a_planner_that_takes_over_repeats_no_event(cluster: MemoryCluster) -> None:
    processor = cluster.open_planner()
    for lane in (0, 1, 2):
        cluster.view.write(lane)
    half = cluster.plan.budgets // 2 + 1
    cluster.view.write(0, arrived=50, served=np.array([25, 25]), charged=half)
    cluster.next_round(processor)

    def events() -> list[tuple[str, float]]:
        values = [orjson.loads(m.value()) for m in cluster.topics.of(cluster.names.budget_events)]
        return [(value["budget"], value["threshold"]) for value in values]

    assert events() == [("a", 0.5), ("b", 0.5)]
    successor = cluster.open_planner()
    cluster.view.write(1, arrived=10, served=np.array([10, 0]), charged=np.array([half[0] - 2, 0]))
    cluster.next_round(successor)
    cluster.next_round(cluster.open_planner())
    assert events() == [("a", 0.5), ("b", 0.5), ("a", 0.8), ("a", 1.0)]
    assert cluster.bills[1].alerts == {"a": ["50", "80", "100"], "b": ["50"]}
