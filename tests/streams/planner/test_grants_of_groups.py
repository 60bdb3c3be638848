"""Grants of groups on the stream: a query is paid in one place, by all counters that it draws on."""

import pytest

from routing.budgets.budget import Budget
from routing.budgets.money import PICO
from tests.streams.memory_stream import MemoryStream
from tests.streams.stepped_router import MODELS

TOTAL = Budget("total", limit=1.0)
TEAM = Budget("team", group_by="metadata.team", limits={"ads": 0.5}, default=0.5)
TENANT = Budget("tenant", group_by="metadata.tenant", default=0.5)
RATE = Budget("rate", unit="queries", limit=60, per="minute", burst=10, models=MODELS[:1])


@pytest.mark.parametrize("horizon", [40, 400])
def test_group_of_one_lane_is_paid_where_the_shared_total_is(horizon: int):
    """The pool has the whole total, at both ends of a period and in a short one."""
    stream = MemoryStream(TOTAL, TEAM, horizon=horizon)
    for _ in range(10):
        stream.send(2, metadata={"team": "ads"})
        stream.round(0.15)
    assert stream.served() >= 18  # a query may miss grants that are on their way from the pool


def test_group_of_one_lane_draws_on_a_rate_that_the_pool_holds():
    stream = MemoryStream(TOTAL, TEAM, RATE, horizon=4000)
    for _ in range(12):
        stream.send(1, metadata={"team": "ads"}, models=[MODELS[0]])
        stream.send(1, metadata={"team": "ads"}, models=[MODELS[1]])
        stream.round(1.0)
    served = [query["routing"]["model"] for query in stream.router.routed()]
    assert served.count(MODELS[0]) >= 11
    assert stream.unserved().keys() <= {("not_worth_it",), ("budget_exhausted", "team=ads")}


def test_groups_of_two_budgets_with_different_homes_are_paid():
    stream = MemoryStream(TEAM, TENANT, horizon=4000)
    for _ in range(12):
        stream.send(9, metadata={"team": "ads", "tenant": "x"})
        stream.send(1, lane=1, metadata={"team": "seo", "tenant": "x"})
        stream.round(1.0)
    seo = [query for query in stream.router.routed() if query["metadata"]["team"] == "seo"]
    assert len(seo) >= 10


def test_queries_of_a_group_on_another_lane_are_paid():
    stream = MemoryStream(TEAM, horizon=4000)
    for _ in range(12):
        stream.send(9, metadata={"team": "ads"})
        stream.send(1, lane=1, metadata={"team": "ads"})
        stream.round(1.0)
    assert stream.served() >= 110


def test_plan_with_grouped_budgets_only_is_read_back():
    stream = MemoryStream(TEAM)
    assert stream.plan.counters.names == ("team=ads", "team=", "team=other")
    assert stream.plan.budgets.tolist() == [PICO // 2] * 3
    assert not stream.plan.per_llm
