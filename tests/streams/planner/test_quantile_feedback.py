"""The planner corrects reserved quantiles by outcomes: published, continued, once, and dropped."""

from dataclasses import replace

import pytest

from routing.budgets.cost_quantile import follow
from tests.streams.planner.memory_cluster import MemoryCluster

LEVEL = 0.95


@pytest.fixture
def reserving() -> MemoryCluster:
    cluster = MemoryCluster(reserve="p95")
    for lane in (0, 1, 2):
        cluster.view.write(lane)
    return cluster


def report(cluster: MemoryCluster, lane: int, model: str, answers: int, above: int) -> None:
    """Count answers of a lane in its ledger."""
    record = cluster.view.kept[lane]
    before = record.exceeded.get(model, [0, 0])
    exceeded = {**record.exceeded, model: [before[0] + answers, before[1] + above]}
    cluster.view.kept[lane] = replace(record, exceeded=exceeded)


def test_update_publishes_corrections_from_the_answers_of_all_lanes(reserving):
    planner = reserving.open_planner()
    reserving.next_round(planner)
    report(reserving, 0, "a", 4, 3)
    report(reserving, 1, "a", 4, 3)
    reserving.next_round(planner)

    offset = pytest.approx(follow(0.0, LEVEL, 8, 6), abs=1e-6)
    assert reserving.plan.reserve_offsets == {"a": [LEVEL, offset, 8, 6], "b": [LEVEL, 0.0, 0, 0]}
    plans = len(reserving.plans)
    reserving.next_round(planner)
    assert len(reserving.plans) == plans, "nothing is new"


def test_update_by_another_planner_continues_and_counts_no_answer_twice(reserving):
    reserving.next_round(reserving.open_planner())
    report(reserving, 0, "a", 10, 9)
    reserving.next_round(reserving.processors[-1])
    before = reserving.plan.reserve_offsets
    assert before["a"][1] > 0.2
    planner = reserving.open_planner()
    reserving.next_round(planner)
    assert reserving.plan.reserve_offsets == before
    report(reserving, 0, "a", 20, 20)
    reserving.next_round(planner)
    expected = pytest.approx(follow(before["a"][1], LEVEL, 20, 20), abs=1e-6)
    assert reserving.plan.reserve_offsets["a"] == [LEVEL, expected, 30, 29]


def test_update_with_another_quantile_begins_again_and_with_estimates_has_none(reserving):
    reserving.next_round(reserving.open_planner())
    report(reserving, 0, "a", 10, 9)
    reserving.next_round(reserving.processors[-1])
    reserving.settings = reserving.settings.model_copy(update={"reserve": "p99"})
    reserving.next_round(reserving.open_planner())
    assert reserving.plan.reserve_offsets["a"] == [0.99, 0.0, 10, 9]
    reserving.settings = reserving.settings.model_copy(update={"reserve": "estimate"})
    reserving.next_round(reserving.open_planner())
    assert reserving.plan.reserve_offsets == {}
