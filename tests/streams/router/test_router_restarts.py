"""The router's processor under failures: no query lost or duplicated."""

from collections import Counter

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.budgets.money import PICO
from tests.streams.router.memory_router import (
    POOL,
    MemoryRouter,
    deliver_outcomes,
    final_period,
    ids,
    outcome_of,
    plan_with,
)

event_lists = st.lists(
    st.tuples(
        st.sampled_from(["give", "pool", "fail", "kill", "freeze", "outcomes", "plan", "period", "learn"]),
        st.integers(1, 9),
    ),
    max_size=30,
)


@given(event_lists, st.booleans())
@settings(max_examples=60)
def test_route_under_random_failures_loses_and_duplicates_no_query(events, learned):
    router = MemoryRouter(partitions=2)
    small = np.full((3, 3), PICO // 1000, dtype=np.int64)
    small[POOL] *= 5
    router.plans.latest = plan_with(granted=small, target=small, learned=learned, version=int(learned))
    router.send(*ids(40))
    lanes = {lane: router.open_lane(lane) for lane in (0, POOL)}
    settled = 0

    def attempt(lane: int, most: int = 5) -> int:
        try:
            return router.deliver(lanes[lane], most)
        except KafkaException:
            lanes[lane].close()
            lanes[lane] = router.open_lane(lane)
            return 1
        finally:
            router.topics.fail = lambda: None

    def broken() -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "gone"))

    for name, number in events:
        plan = router.plans.latest
        if name == "give":
            attempt(0, number)
        elif name == "pool":
            attempt(POOL, number)
        elif name == "fail":
            router.topics.fail = broken
            attempt(0, number)
        elif name == "kill":
            lanes[number % 2 * POOL] = router.open_lane(number % 2 * POOL)
        elif name == "freeze":
            frozen = lanes[0]
            lanes[0] = router.open_lane(0)
            attempt(0, number)
            with pytest.raises(KafkaException):
                router.step(frozen)
        elif name == "outcomes":
            for query in router.routed()[settled : settled + number]:
                lane = query["routing"]["partition"]
                value = outcome_of(query, query["routing"]["cost"] / 2)
                router.topics.add(router.names.outcomes, value, lane)
            for processor in lanes.values():
                deliver_outcomes(router, processor)
                processor.refresh_plan()
                processor.process([])
        elif name == "plan":
            more = plan.granted + PICO // 2000 * (number % 3)
            router.plans.latest = plan.changed(granted=more, target=more)
        elif name == "period":
            router.plans.latest = plan.changed(period=plan.period + 1, billed=final_period(router))
        else:
            router.plans.latest = plan.changed(learned=True, version=1)
    router.plans.latest = router.plans.latest.changed(learned=True, version=1)
    for lane in (0, POOL):
        while attempt(lane):
            pass
    places = router.places()
    assert set(places) == set(ids(40))
    assert Counter(map(len, places.values())) == {1: 40}
    for processor in lanes.values():
        deliver_outcomes(router, processor)
        processor.refresh_plan()
        processor.process([])
    router.assert_ledgers_match_topics(0, POOL)
    stretches: dict[int, int] = {}
    for period, _, begin, end, count in router.samples():
        assert begin >= stretches.get(period, 0)
        assert count <= end - begin
        stretches[period] = end
