"""The timeline: rings forget the fine past and keep the coarse, and what is shown is bounded."""

from streams.overview import survey
from streams.timeline import RINGS, Timekeeper, Timeline, point
from tests.streams.cluster_made_up import make_ledgers, make_plan


def written(seconds: int, every: int = 10, start: float = 1e9) -> tuple[dict[str, dict], Timeline]:
    """What a planner writes in so many seconds, as a compacted topic keeps it."""
    keeper, topic = Timekeeper(), {}
    for step in range(seconds // every):
        now = start + step * every
        for key in keeper.due(now):
            topic[key] = {"at": now}
    timeline = Timeline()
    for key, value in topic.items():
        timeline.put(key, value)
    return topic, timeline


def test_each_slot_is_written_once_when_its_time_has_come():
    keeper = Timekeeper()

    assert len(keeper.due(7200.0)) == len(RINGS)
    assert keeper.due(7205.0) == ()
    assert len(keeper.due(7210.0)) == 1
    assert len(keeper.due(7320.0)) == 2


def test_a_topic_of_weeks_is_small_and_knows_the_past_coarsely_and_the_present_finely():
    topic, timeline = written(3 * 86400)
    end = 1e9 + 3 * 86400

    assert len(topic) <= sum(count for _, count in RINGS)
    recent = timeline.since(end - 1000, most=10_000)
    assert len(recent) >= 100
    whole = timeline.since(0, most=10_000)
    assert whole[0]["at"] <= 1e9 + 3600
    assert [p["at"] for p in whole] == sorted({p["at"] for p in whole})


def test_what_is_shown_is_thinned_out_and_keeps_both_ends():
    _, timeline = written(6 * 3600)

    shown = timeline.since(0, most=50)

    assert len(shown) <= 50
    assert shown[-1] == timeline.newest()
    assert shown[0]["at"] == min(p["at"] for p in timeline.since(0, most=10_000))


def test_a_point_has_what_the_page_draws():
    found = point(survey(make_plan(), make_ledgers(), 1100.0), 1100.0, lag=5)

    assert found["served"] == [30, 8]
    assert found["charged"] == [4, 6]
    assert (found["arrived"], found["unserved"], found["lag"]) == (41, 3, 5)
    assert found["quality_reported"][1] is None
