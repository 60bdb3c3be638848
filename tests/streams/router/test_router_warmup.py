"""The router's processor during warm-up: samples once, decisions later."""

import numpy as np
import orjson

from tests.streams.router.memory_router import POOL, ids, plan_with, waiting_plan


def test_sample_during_warmup_sends_each_sample_once_and_decides_later(router):
    router.plans.latest = waiting_plan()
    processor = router.open_lane()
    router.send(*ids(12))
    router.deliver(processor, 5)
    router.deliver(processor, 5)
    assert router.samples() == [(1, 0, 0, 5, 5), (1, 0, 5, 10, 5)]
    assert (router.ledger(0).next, router.ledger(0).sampled, processor.next_offset) == (0, 10, 10)
    assert router.places() == {}
    router.plans.latest = plan_with(until=50, revision=6)
    processor.refresh_plan()
    assert processor.next_offset == 0
    router.deliver(processor)
    assert set(router.places()) == set(ids(12))
    assert router.samples()[2:] == [(1, 0, 10, 12, 2)]


def test_sample_rejected_queries_before_first_valid_one_do_not_wait_for_plan(router):
    """Without a valid query there may never be a plan."""
    router.plans.latest = waiting_plan()
    processor = router.open_lane()
    for name in ids(2):
        router.topics.add(router.names.queries, orjson.dumps({"id": name}), 0)
    router.deliver(processor)
    assert router.places() == {"q0": ["dlq"], "q1": ["dlq"]}
    assert (router.ledger(0).next, router.ledger(0).account.dead, router.samples()) == (2, 2, [])
    router.topics.add(router.names.queries, orjson.dumps({"id": "q2"}), 0)
    router.send("q3")
    router.topics.add(router.names.queries, orjson.dumps({"id": "q4"}), 0)
    router.deliver(processor)
    assert (router.ledger(0).next, router.ledger(0).sampled) == (3, 5)
    router.topics.add(router.names.queries, orjson.dumps({"id": "q5"}), 0)
    router.deliver(processor)
    assert set(router.places()) == {"q0", "q1", "q2"}, "rejected queries wait behind a valid one"
    assert router.samples() == [(1, 0, 3, 5, 1)]
    router.plans.latest = plan_with(revision=6)
    router.deliver(processor)
    assert {name: len(places) for name, places in router.places().items()} == dict.fromkeys(ids(6), 1)
    assert router.ledger(0).account.dead == 5


def test_sample_waiting_queries_in_new_period_samples_them_again(router):
    """A planner that lacks the earlier samples would wait for them indefinitely."""
    router.plans.latest = waiting_plan()
    processor = router.open_lane()
    router.send(*ids(6))
    router.deliver(processor)
    router.plans.latest = waiting_plan(period=2, revision=6)
    processor.refresh_plan()
    assert processor.next_offset == 0
    assert processor.has_pending_work
    router.deliver(processor)
    assert router.samples() == [(1, 0, 0, 6, 6), (2, 0, 0, 6, 6)]
    assert (router.ledger(0).account.period, router.ledger(0).sampled) == (2, 6)


def test_route_queries_sampled_in_earlier_period_samples_them_again(router):
    router.plans.latest = waiting_plan()
    processor = router.open_lane()
    router.send(*ids(20))
    router.deliver(processor)
    router.plans.latest = plan_with(revision=6)
    router.deliver(processor, 8)
    router.plans.latest = plan_with(period=2, revision=7, until=10)
    router.deliver(processor)
    assert router.samples() == [(1, 0, 0, 20, 20), (2, 0, 8, 20, 12)]
    assert set(router.places()) == set(ids(20))


def test_pending_work_of_waiting_lane_above_target_is_false(router):
    """It releases grants when it routes. Until then a transaction would change nothing."""
    router.plans.latest = waiting_plan(target=np.zeros((3, 3), np.int64))
    processor = router.open_lane()
    router.send(*ids(1))
    router.deliver(processor)
    processor.refresh_plan()
    assert not processor.has_pending_work


def test_limit_of_overflow_lane_during_warmup_is_zero(router):
    router.plans.latest = waiting_plan()
    assert router.open_lane(POOL).max_records == 0
