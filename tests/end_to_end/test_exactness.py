"""Exactly once: workers killed, frozen and broken at chosen moments lose and duplicate nothing.

Needs Apache Kafka (the fixture `kafka` finds or starts it).
"""

import time

import numpy as np
import pytest

from streams.messages.samples import decode_samples
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.faults import DieInCommit, LoseBatches, RaiseInLane, RaiseInReader
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.worker_process import wait_for


def sample_count(router: Router) -> int:
    """Return the number of samples that were sent to the planner."""
    with router.logs() as logs:
        return sum(len(decode_samples(entry.value)[1]) for entry in logs.read(router.topics.samples))


@pytest.mark.parametrize("moment", ["before", "flushed", "after"])
def test_worker_killed_while_routing_leaves_no_partial_batch(router: MakeRouter, moment: str) -> None:
    stream = router(batch_max=50)
    dying = stream.start(DieInCommit("route", 4, moment))
    stream.send(range(500))
    assert dying.wait(60) == -9
    assert len(stream.landed) < 500
    stream.start()
    stream.all_landed()
    assert_whole(stream)


def test_worker_killed_in_warmup_loses_no_query_and_no_sample(router: MakeRouter) -> None:
    stream = router(batch_max=50, eps=0.4)
    dying = stream.start(DieInCommit("sample", 4, "flushed"))
    stream.send(range(300))
    assert dying.wait(60) == -9
    assert not stream.landed, "nothing is routed before there are prices"
    stream.start()
    stream.send(range(300, 600))
    stream.all_landed()
    assert_whole(stream)  # includes: no query was sampled twice
    assert 400 <= sample_count(stream) <= 600, "once there are prices, queries are routed without sampling"
    plans = [plan for plan in stream.plans() if plan.learned]
    assert plans[0].solved_from.observed == 400


def test_worker_frozen_and_thawed_does_not_write_again(router: MakeRouter) -> None:
    stream = router(partitions=2, batch_max=50)
    frozen = stream.start(ready=True)
    stream.send(range(300))
    stream.landed_at_least(50)
    frozen.freeze()
    other = stream.start()
    stream.send(range(300, 600))
    # Only the session timeout moves the frozen worker's partitions to the other worker.
    stream.all_landed()
    frozen.thaw()
    stream.send(range(600, 900))
    stream.all_landed()
    assert_whole(stream)
    assert other.alive
    assert len({plan.version for plan in stream.plans() if plan.learned}) == 1


def test_batches_lost_before_their_lane_are_fetched_again(router: MakeRouter) -> None:
    stream = router(partitions=2, batch_max=50)
    worker = stream.start(LoseBatches(0.3), ready=True)
    for start in range(0, 600, 60):
        stream.send(range(start, start + 60))
    stream.all_landed()
    assert_whole(stream)
    assert worker.logged("hole") or worker.logged("tail"), "no batch was lost, so the test checked nothing"


def test_lane_that_raises_stops_the_worker_and_the_next_one_resumes(router: MakeRouter) -> None:
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
def test_worker_that_cannot_read_outcomes_or_plans_exits_with_the_reason(
    router: MakeRouter, reader: str
) -> None:
    stream = router(batch_max=50)
    broken = stream.start(RaiseInReader(reader))
    assert broken.wait(60) == 1
    (event,) = broken.events("worker_cannot_go_on")
    assert event["reader"] == reader
    assert "injected" in event["reason"]
    # Another worker gets its partitions at once, and settles.
    stream.start()
    stream.send(range(300))
    stream.all_landed()
    for landing in stream.served():
        stream.answer(landing)
    stream.settled(len(stream.served()))
    assert_whole(stream)


def test_worker_restarted_uses_the_plan_in_force_without_solving_again(router: MakeRouter) -> None:
    stream = router()
    first = stream.start()
    stream.send(range(200))
    stream.all_landed()
    assert first.stop() == 0, "SIGTERM ends a worker with status 0"
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


def test_workers_joining_and_leaving_under_load_lose_nothing(router: MakeRouter) -> None:
    """Rebalances 1 -> 2 -> 3 -> 1 under load."""
    stream = router(partitions=4, batch_max=50)
    first = stream.start(ready=True)
    row = 0

    def load(until: object, seconds: float = 60) -> None:
        nonlocal row
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:  # type: ignore[operator]
            stream.send(range(row, row + 20), tag=f"{row}-")
            row += 20
            time.sleep(0.2)

    second = stream.start()
    load(lambda: second.logged("lanes_assigned"))
    third = stream.start()
    load(lambda: third.logged("lanes_assigned"))
    assert first.stop() == 0
    second.kill()
    load(lambda: len(list(third.events("lanes_assigned"))) > 1)
    wait_for(
        lambda: any(len(e["lanes"]) == 6 for e in third.events("lanes_assigned")),
        60,
        "the third worker has all lanes",
    )
    stream.all_landed()
    assert_whole(stream)
