"""Nothing lost, nothing twice: workers killed, frozen and broken at chosen moments.

Needs Apache Kafka (the fixture `kafka` finds or starts it).
"""

import time

import numpy as np
import pytest

from streams.messages import decode_samples
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.faults import DieInCommit, LoseBatches, RaiseInLane, RaiseInReader
from tests.end_to_end.routers import Router, assert_whole
from tests.end_to_end.workers import wait_for


def sampled(router: Router) -> int:
    """Samples that were sent to the planner in all."""
    with router.logs() as logs:
        return sum(len(decode_samples(entry.value)[1]) for entry in logs.read(router.topics.samples))


@pytest.mark.parametrize("moment", ["before", "flushed", "after"])
def test_a_worker_killed_while_routing_leaves_nothing_half_done(router: MakeRouter, moment: str) -> None:
    stream = router(batch_max=50)
    dying = stream.start(DieInCommit("route", 4, moment))
    stream.send(range(500))
    assert dying.wait(60) == -9
    assert len(stream.landed) < 500
    stream.start()
    stream.all_landed()
    assert_whole(stream)


def test_a_worker_killed_in_warmup_loses_no_query_and_samples_none_twice(router: MakeRouter) -> None:
    stream = router(batch_max=50, eps=0.4)
    dying = stream.start(DieInCommit("sample", 4, "flushed"))
    stream.send(range(300))
    assert dying.wait(60) == -9
    assert not stream.landed, "nothing is routed before there are prices"
    stream.start()
    stream.send(range(300, 600))
    stream.all_landed()
    assert_whole(stream)  # none was sampled twice, too
    assert 400 <= sampled(stream) <= 600, "once there are prices the rest is routed without"
    plans = [plan for plan in stream.plans() if plan.learned]
    assert plans[0].solved_from["observed"] == 400


def test_a_frozen_worker_that_wakes_up_does_no_harm(router: MakeRouter) -> None:
    stream = router(partitions=2, batch_max=50)
    frozen = stream.start(ready=True)
    stream.send(range(300))
    stream.landed_at_least(50)
    frozen.freeze()
    other = stream.start()
    stream.send(range(300, 600))
    # the group gives the frozen worker's partitions away after the session timeout, and nothing else does
    stream.all_landed()
    frozen.thaw()
    stream.send(range(600, 900))
    stream.all_landed()
    assert_whole(stream)
    assert other.alive
    assert len({plan.version for plan in stream.plans() if plan.learned}) == 1


def test_batches_lost_between_fetch_and_lane_are_fetched_again(router: MakeRouter) -> None:
    stream = router(partitions=2, batch_max=50)
    worker = stream.start(LoseBatches(0.3), ready=True)
    for start in range(0, 600, 60):
        stream.send(range(start, start + 60))
    stream.all_landed()
    assert_whole(stream)
    assert worker.logged("hole") or worker.logged("tail"), "no batch was lost: the test tests nothing"


def test_a_lane_that_raises_stops_the_worker_with_its_reason_and_the_next_goes_on(router: MakeRouter) -> None:
    stream = router(batch_max=50)
    broken = stream.start(RaiseInLane(6))
    stream.send(range(400))
    assert broken.wait(60) > 0
    (event,) = broken.events("lane_died")
    assert "injected: this lane raises" in event["reason"]
    stream.start()
    stream.all_landed()
    assert_whole(stream)


@pytest.mark.parametrize("reader", ["outcomes", "plans"])
def test_a_worker_ends_when_it_cannot_read_outcomes_or_plans_and_says_why(
    router: MakeRouter, reader: str
) -> None:
    stream = router(batch_max=50)
    broken = stream.start(RaiseInReader(reader))
    assert broken.wait(60) == 1
    (event,) = broken.events("worker_cannot_go_on")
    assert event["reader"] == reader
    assert "injected" in event["reason"]
    # another one has its partitions at once, and settles
    stream.start()
    stream.send(range(300))
    stream.all_landed()
    for landing in stream.served():
        stream.answer(landing)
    stream.settled(len(stream.served()))
    assert_whole(stream)


def test_after_a_restart_the_same_plan_is_in_force_and_not_solved_again(router: MakeRouter) -> None:
    stream = router()
    first = stream.start()
    stream.send(range(200))
    stream.all_landed()
    assert first.stop() == 0, "SIGTERM is a wish, not an error"
    before = stream.plan()
    second = stream.start()
    stream.send(range(200, 400))
    stream.all_landed()
    after = stream.plan()
    assert_whole(stream)
    assert before.learned
    assert (after.version, after.period) == (before.version, before.period)
    np.testing.assert_array_equal(after.prices, before.prices)
    assert not [e for e in second.events("plan_published") if e["plan"] != before.version]


def test_one_worker_after_the_other_takes_over_and_gives_back(router: MakeRouter) -> None:
    """Rebalances 1 -> 2 -> 3 -> 1 under load."""
    stream = router(partitions=4, batch_max=50)
    one = stream.start(ready=True)
    row = 0

    def load(until: object, seconds: float = 60) -> None:
        nonlocal row
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:  # type: ignore[operator]
            stream.send(range(row, row + 20), tag=f"{row}-")
            row += 20
            time.sleep(0.05)

    two = stream.start()
    load(lambda: two.logged("lanes_assigned"))
    three = stream.start()
    load(lambda: three.logged("lanes_assigned"))
    assert one.stop() == 0
    two.kill()
    load(lambda: len(list(three.events("lanes_assigned"))) > 1)
    wait_for(lambda: any(len(e["lanes"]) == 6 for e in three.events("lanes_assigned")), 60, "three has all")
    stream.all_landed()
    assert_whole(stream)
