"""Timeline."""

from streams.telemetry.cluster_summary import summarise_cluster
from streams.telemetry.timeline import RINGS, Timeline, TimelineClock, point
from tests.streams.sample_cluster import make_ledgers, make_plan


def written(seconds: int, every: int = 10, start: float = 1e9) -> tuple[dict[str, dict], Timeline]:
    """Return the points that a planner writes in these seconds, as a compacted topic keeps them."""
    keeper, topic = TimelineClock(), {}
    for step in range(seconds // every):
        now = start + step * every
        for key in keeper.pending(now):
            topic[key] = {"at": now}
    timeline = Timeline()
    for key, value in topic.items():
        timeline.put(key, value)
    return topic, timeline


def test_pending_returns_each_due_slot_once():
    keeper = TimelineClock()

    assert len(keeper.pending(7200.0)) == len(RINGS)
    assert keeper.pending(7205.0) == ()
    assert len(keeper.pending(7210.0)) == 1
    assert len(keeper.pending(7320.0)) == 2


def test_timeline_of_weeks_is_small_and_coarser_with_age():
    topic, timeline = written(3 * 86400)
    end = 1e9 + 3 * 86400

    assert len(topic) <= sum(count for _, count in RINGS)
    recent = timeline.since(end - 1000, limit=10_000)
    assert len(recent) >= 100
    points = timeline.since(0, limit=10_000)
    assert points[0]["at"] <= 1e9 + 3600
    assert [p["at"] for p in points] == sorted({p["at"] for p in points})


def test_since_with_a_limit_thins_out_and_keeps_both_ends():
    _, timeline = written(6 * 3600)

    shown = timeline.since(0, limit=50)

    assert len(shown) <= 50
    assert shown[-1] == timeline.newest()
    assert shown[0]["at"] == min(p["at"] for p in timeline.since(0, limit=10_000))


def test_point_has_the_fields_of_the_page():
    newest = point(summarise_cluster(make_plan(), make_ledgers(), 1100.0), 1100.0, lag=5)

    assert newest["served"] == [30, 8]
    assert newest["charged"] == [4, 6]
    assert (newest["arrived"], newest["unserved"], newest["lag"]) == (41, 3, 5)
    assert newest["quality_reported"][1] is None
