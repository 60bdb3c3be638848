"""Rates on the stream: the planner's refill reaches the lanes, and no counter exceeds growth plus burst."""

import numpy as np
import pytest

from routing.budgets.budget import Budget
from tests.streams.memory_stream import MemoryStream
from tests.streams.stepped_router import MODELS

BURST, PER_SECOND = 6, 2
RATE = Budget("rate", unit="queries", limit=60 * PER_SECOND, per="minute", burst=BURST)
TEAM = Budget("team", unit="queries", group_by="metadata.team", limit=60, per="minute", burst=3)
TOTAL = Budget("total", limit=1.0)


def ask(stream: MemoryStream, count: int, **fields: object) -> None:
    """Send queries for the cheapest LLM, which is worth its cost, evenly to both partitions."""
    for lane in (0, 1):
        stream.send(count, lane, models=[MODELS[0]], **fields)


def assert_whole(stream: MemoryStream) -> None:
    """Assert that the audit finds nothing once the planner has written the last bills."""
    for _ in range(4):
        stream.round(1.0)
    findings = stream.recorded().check()
    assert not findings.counts, findings.examples


def test_refill_reaches_the_lanes_and_the_rate_is_used_up():
    stream = MemoryStream(TOTAL, RATE, horizon=4000)
    begin, most = stream.router.now, []
    for _ in range(24):
        ask(stream, 2)
        stream.round(0.5)
        allowed = BURST + PER_SECOND * (stream.router.now - begin)
        most.append(allowed - stream.served())
        assert stream.charged("rate", None) == stream.served() <= allowed
    assert BURST + 12 * PER_SECOND - 1 <= stream.limit("rate", None) <= BURST + 12 * PER_SECOND
    assert max(most[-10:]) <= 1, "queries use the rate as fast as it grows"
    assert_whole(stream)


def test_idle_rate_lets_its_burst_through_and_no_more():
    stream = MemoryStream(TOTAL, RATE, horizon=4000)
    ask(stream, 10)
    stream.round()
    assert stream.served() == BURST
    for _ in range(4):
        stream.round(600.0)
    ask(stream, 20)
    stream.round(0.01)
    assert stream.served() == 2 * BURST


@pytest.mark.parametrize("seed", range(3))
def test_restarted_planner_never_grants_more_than_growth_and_burst(seed: int):
    """Planners are lost at random, some before they publish, and the next one's clock may be behind."""
    random = np.random.default_rng(seed)
    stream = MemoryStream(TOTAL, RATE, horizon=4000)
    begin = latest = stream.router.now
    for _ in range(30):
        ask(stream, int(random.integers(0, 4)))
        if random.random() < 0.3:
            stream.restart_planner()
            stream.router.now -= float(random.choice([0.0, 0.0, 3.0]))
        stream.round(float(random.choice([0.01, 0.3, 1.0])))
        latest = max(latest, stream.router.now)
        assert stream.served() <= BURST + PER_SECOND * (latest - begin)
    assert stream.served() > BURST
    assert_whole(stream)


def test_rate_goes_on_over_periods():
    stream = MemoryStream(TOTAL, RATE, horizon=40)
    begin = stream.router.now
    for _ in range(40):
        ask(stream, 2)
        stream.round(0.5)
        assert stream.served() <= BURST + PER_SECOND * (stream.router.now - begin)
    assert stream.plan.period >= 4
    assert stream.served() > 20
    assert_whole(stream)


def test_value_that_rests_for_a_period_does_not_get_its_burst_again():
    slow = Budget("team", unit="queries", group_by="metadata.team", limit=60, per="hour", burst=3)
    stream = MemoryStream(TOTAL, slow, horizon=20)
    begin = stream.router.now
    for team in ["ads"] * 6 + ["seo"] * 24 + ["ads"] * 12:
        ask(stream, 2, metadata={"team": team})
        stream.round(0.5)
    ads = [one for one in stream.router.routed() if one["metadata"]["team"] == "ads"]
    assert stream.plan.period >= 4
    assert 0 < len(ads) <= 3 + (stream.router.now - begin) / 60


def test_each_value_has_a_rate_of_its_own():
    stream = MemoryStream(TOTAL, TEAM, horizon=4000)
    begin = stream.router.now
    for _ in range(15):
        for team in ("ads", "seo"):
            ask(stream, 1, metadata={"team": team})
        stream.round(1.0)
    allowed = 3 + (stream.router.now - begin)
    for team in ("ads", "seo"):
        served = [one for one in stream.router.routed() if one["metadata"]["team"] == team]
        assert allowed - 8 <= len(served) <= allowed
    assert_whole(stream)
