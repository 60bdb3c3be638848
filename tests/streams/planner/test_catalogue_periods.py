"""Periods of the catalogue: they end by the planner's clock, and a successor continues them."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from streams.operations.plan_table import plan_lines
from tests.streams.planner.memory_cluster import MemoryCluster

BERLIN = "Europe/Berlin"
HOUR = 3600.0


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=ZoneInfo(BERLIN)).timestamp()


def cluster_at(now: float, period: object, **options) -> MemoryCluster:
    cluster = MemoryCluster(**options)
    cluster.now = now
    cluster.apply(0, period=period)
    return cluster


@pytest.mark.parametrize(
    ("period", "begin", "ends"),
    [
        # clocks go forward, and back: days of 23 and 25 hours
        ({"every": "day"}, at(2026, 3, 28, 18), [at(2026, 3, 29), at(2026, 3, 30), at(2026, 3, 31)]),
        ({"every": "day"}, at(2026, 10, 24, 18), [at(2026, 10, 25), at(2026, 10, 26), at(2026, 10, 27)]),
        ({"every": "month"}, at(2026, 1, 31, 18), [at(2026, 2, 1), at(2026, 3, 1), at(2026, 4, 1)]),
        (
            {"every": "month", "start_day": 28, "start_hour": 6},
            at(2027, 12, 31),
            [at(2028, 1, 28, 6), at(2028, 2, 28, 6), at(2028, 3, 28, 6)],
        ),
        ({"every": "week", "start_day": 7}, at(2026, 3, 28), [at(2026, 3, 29), at(2026, 4, 5)]),
    ],
)
def test_calendar_ends_periods_at_its_boundaries(period: dict, begin: float, ends: list[float]):
    cluster = cluster_at(begin, {**period, "time_zone": BERLIN}, period_seconds=60.0, horizon=10)
    processor = cluster.open_planner()
    for number, end in enumerate(ends, 1):
        assert (cluster.plan.period, cluster.plan.ends_at) == (number, end)
        cluster.view.write(0, period=number, arrived=1000)  # far beyond the settings' horizon
        cluster.now = end - 0.5
        processor.process([])
        assert cluster.plan.period == number, "neither the settings' seconds nor queries end it"
        cluster.now = end
        processor.process([])
    assert (cluster.plan.period, cluster.plan.began_at) == (len(ends) + 1, ends[-1])


def test_successor_continues_the_period_and_ends_it_at_the_same_time():
    begin, end = at(2026, 3, 28, 18), at(2026, 3, 29)
    cluster = cluster_at(begin, {"every": "day", "time_zone": BERLIN})
    cluster.open_planner()
    first = cluster.plan
    assert "period ends 2026-03-28 23:00:00+00:00" in "\n".join(plan_lines(first, {}))

    cluster.now = end - HOUR
    successor = cluster.open_planner()
    cluster.next_round(successor)
    assert (cluster.plan.period, cluster.plan.began_at, cluster.plan.ends_at) == (1, begin, end)
    cluster.now = end + 100 * HOUR  # no planner ran meanwhile: the days without one are one period with none
    last = cluster.open_planner()
    cluster.next_round(last)
    assert (cluster.plan.period, cluster.plan.ends_at) == (2, at(2026, 4, 3))


def test_clock_that_was_set_back_begins_no_day_twice():
    cluster = cluster_at(at(2026, 5, 1, 12), {"every": "day", "time_zone": BERLIN})
    processor = cluster.open_planner()
    cluster.now = at(2026, 5, 2)
    cluster.next_round(processor)
    successor = cluster.open_planner()
    cluster.now = at(2026, 5, 1, 23)
    cluster.next_round(successor)
    assert (cluster.plan.period, cluster.plan.ends_at) == (2, at(2026, 5, 3))


def test_first_period_expects_the_queries_of_the_rest_of_the_day():
    cluster = cluster_at(at(2026, 5, 1, 18), {"every": "day", "time_zone": BERLIN}, horizon=1000)
    processor = cluster.open_planner()
    assert cluster.plan.horizon == 250
    cluster.now = at(2026, 5, 2)
    cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.horizon) == (2, 1000)


def test_queries_and_seconds_of_the_catalogue_precede_the_settings():
    cluster = cluster_at(0.0, {"queries": 40}, horizon=1000, period_seconds=5.0)
    processor = cluster.open_planner()
    cluster.now = 100.0
    cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.horizon, cluster.plan.ends_at) == (1, 40, None)
    cluster.view.write(0, arrived=40, served=(20, 20))
    cluster.next_round(processor)
    assert cluster.plan.period == 2

    cluster = cluster_at(0.0, {"seconds": 60}, horizon=10)
    processor = cluster.open_planner()
    cluster.now = 59.0
    cluster.view.write(0, arrived=1000)
    cluster.next_round(processor)
    assert cluster.plan.period == 1
    cluster.now = 60.0
    cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.ends_at) == (2, 60.0 + 0.25 + 60.0)


@pytest.mark.parametrize("restart", [False, True])
def test_applied_period_begins_with_the_next_period(restart: bool):
    cluster = MemoryCluster(horizon=40)
    cluster.now = at(2026, 10, 24, 12)
    processor = cluster.open_planner()
    cluster.apply(1, period={"every": "day", "time_zone": BERLIN})
    cluster.next_round(processor)
    if restart:
        processor = cluster.open_planner()
        cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.catalogue, cluster.plan.ends_at) == (1, 1, None)
    cluster.view.write(0, arrived=40, served=(20, 20))
    cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.ends_at) == (2, at(2026, 10, 25))
    cluster.now = at(2026, 10, 25)
    cluster.next_round(processor)
    assert cluster.plan.ends_at == cluster.plan.began_at - 0.25 + 25 * HOUR

    cluster.apply(2)  # back to the settings' period: the day goes on to its end
    cluster.next_round(processor)
    cluster.view.write(0, period=3, arrived=1000, served=(500, 500))
    cluster.next_round(processor)
    assert cluster.plan.period == 3
    cluster.now = at(2026, 10, 26)
    cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.ends_at, cluster.plan.horizon) == (4, None, 40)
