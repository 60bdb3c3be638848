"""The shadow lane decides as a lane with the whole budgets, in the time of the queries."""

from __future__ import annotations

from types import SimpleNamespace

import orjson
import pytest

from routing.budgets.catalogue import Catalogue
from streams.messages.catalogue import CatalogueVersion
from streams.messages.routing_info import RoutingInfo
from streams.operations.shadow_report import compare
from streams.router.charges import charge_estimates
from streams.router.query_intake import QueryIntake
from streams.router.shadow_lane import ShadowLane
from streams.router.token_counts import expected_tokens
from tests.streams.memory_topics import settings_of
from tests.streams.stepped_router import MODELS, make_estimating, prompt_of

ESTIMATION = make_estimating()


def lane_of(usd: float = 1.0, now: list[float] | None = None, **settings: object) -> ShadowLane:
    base = Catalogue.from_dict({"models": [{"name": name, "budget_usd": usd} for name in MODELS]})
    catalogue = SimpleNamespace(
        latest=CatalogueVersion(0, base), base=base, models={model.name: model for model in base.models}
    )
    intake = QueryIntake(ESTIMATION.embedder, ESTIMATION.dimension, ESTIMATION.estimator)
    clock = now or [0.0]
    return ShadowLane(
        settings_of(**{"warmup": "history", **settings}),
        ESTIMATION,
        catalogue,  # type: ignore[arg-type]
        charge_estimates,
        expected_tokens(lambda plan: {}, 1000),
        intake,
        lambda: clock[0],
    )


def records(count: int, start: int = 0) -> list[SimpleNamespace]:
    """Return queries that alternate between two partitions, one a second."""
    return [
        SimpleNamespace(
            topic="queries",
            partition=number % 2,
            offset=number // 2,
            timestamp=1000 * number,
            key=None,
            value=orjson.dumps({"id": f"q{number}", "prompt": prompt_of(f"q{number}")}),
            headers=(),
        )
        for number in range(start, start + count)
    ]


def test_decisions_name_the_positions_of_queries_and_stop_at_the_budget():
    lane = lane_of(usd=0.002, horizon=100)
    decisions = [decision for _, decision in lane.process(records(40))]
    assert [decision.source for decision in decisions] == [(n % 2, n // 2) for n in range(40)]
    spent: dict[str, float] = {}
    for one in decisions:
        if one.model is not None:
            spent[one.model] = spent.get(one.model, 0.0) + one.cost[one.models.index(one.model)]
    assert spent
    assert all(usd <= 0.002 + 1e-12 for usd in spent.values())
    assert any(one.model is None for one in decisions)


def test_queries_wait_for_the_first_prices_and_not_longer_than_the_limit():
    now = [0.0]
    lane = lane_of(now=now, warmup="buffer", eps=0.3, horizon=100, warmup_seconds=5)
    assert list(lane.process(records(20))) == []
    assert lane.waits
    assert len(list(lane.process(records(20, 20)))) == 40
    late = lane_of(now=now, warmup="buffer", eps=0.3, horizon=100, warmup_seconds=5)
    assert list(late.process(records(20))) == []
    now[0] = 6.0
    assert len(list(late.process([]))) == 20


def test_periods_follow_the_time_of_the_queries():
    lane = lane_of(period_seconds=10.0, horizon=10)
    periods = [one.period for n in range(30) for _, one in lane.process(records(1, n))]
    assert sorted(set(periods)) == [1, 2, 3]
    assert periods == sorted(periods)


def test_compare_sums_both_sides_and_skips_what_only_one_has():
    def decision(model: str | None) -> dict:
        return {"model": model, "models": ["a", "b"], "quality": [0.5, 0.9], "cost": [1.0, 4.0]}

    def routed(offset: int, model: str | None, quality: float | None, cost: float | None) -> RoutingInfo:
        return RoutingInfo(1, 1, 0, 0.0, offset, None, model, quality, cost)

    shadow = {(0, 0): decision("a"), (0, 1): decision("b"), (0, 2): decision(None), (0, 9): decision("a")}
    in_force = [routed(0, "a", 0.4, 2.0), routed(1, "c", 0.7, 3.0), routed(2, None, None, None)]
    report = compare(shadow, [*in_force, routed(5, "a", 0.4, 2.0)])
    assert (report.decided, report.compared, report.agreed) == (4, 3, 2)
    assert (report.in_force.quality, report.in_force.cost) == pytest.approx((1.1, 5.0))
    assert report.in_force.by_shadow == [0.5, 1.0], "the shadow does not know c"
    assert (report.shadow.quality, report.shadow.cost) == pytest.approx((1.4, 5.0))
    assert report.by_llm == {"a": [1, 1, 1], "b": [0, 1, 0], "c": [1, 0, 0], "(unserved)": [1, 1, 1]}
    assert "3 queries decided by both" in report.lines()[0]
