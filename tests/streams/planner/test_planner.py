"""The planner's processor: published plans, grant rounds, warm-up and successors."""

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from routing.policy.pause import Pause
from streams.messages.pause import ManualPause
from streams.planner.planner_limits import PlannerLimits
from tests.streams.planner.memory_cluster import ROUND_SECONDS


def test_open_first_planner_starts_period(cluster):
    processor = cluster.open_planner()
    assert len(cluster.plans) == 1
    assert (cluster.plan.period, cluster.plan.version, cluster.plan.learned) == (1, 0, False)
    assert cluster.plan.granted.sum(0).tolist() == [10**10, 2 * 10**10]
    assert (processor.next_offset, processor.version) == (0, 0)


def test_step_with_enough_samples_publishes_prices(cluster):
    processor = cluster.open_planner()
    cluster.sample(9)
    cluster.deliver(processor)
    assert not cluster.plan.learned
    cluster.sample(5)
    cluster.deliver(processor)
    assert cluster.plan.learned
    assert cluster.plan.version == processor.version == 1
    assert cluster.plan.solved_from.observed == 10
    assert cluster.plan.solved_from.samples_from == 0
    assert processor.next_offset == 2


@pytest.mark.parametrize("after", range(1, 8))
def test_open_after_death_of_owner_publishes_the_same_plans(cluster, after):
    """No plan is solved again, and no sample is lost or counted twice."""
    undisturbed = cluster.open_planner()
    for number in range(1, 9):
        cluster.sample(6, arrived=6 * number)
        cluster.view.write(0, arrived=6 * number)
    for _ in range(8):
        cluster.deliver(undisturbed, 1)
    plans_by_version = {plan.version: plan for plan in cluster.plans if plan.learned}
    assert sorted(plans_by_version) == [1, 2, 3]

    cluster.topics.kept[cluster.names.plans, 0].clear()
    first = cluster.open_planner()
    for _ in range(after):
        cluster.deliver(first, 1)
    in_force = cluster.plan
    successor = cluster.open_planner()
    assert cluster.plan.revision == in_force.revision, "the plan in force stays"
    cluster.deliver(successor)
    again = [plan for plan in cluster.plans if plan.learned]
    assert [plan.version for plan in again] == [1, 2, 3]
    for plan in again:
        assert np.array_equal(plan.prices, plans_by_version[plan.version].prices)
        assert plan.solved_from.observed == plans_by_version[plan.version].solved_from.observed


def test_publish_of_fenced_planner_raises(cluster):
    old, new = cluster.open_planner(), cluster.open_planner()
    cluster.sample(10)
    with pytest.raises(KafkaException):
        cluster.deliver(old)
    assert not cluster.plan.learned
    cluster.deliver(new)
    assert cluster.plan.version == 1


def test_open_after_failed_commit_publishes_plan_again(cluster):
    processor = cluster.open_planner()
    cluster.sample(10)

    def broken() -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "gone"))

    cluster.topics.fail = broken
    with pytest.raises(KafkaException):
        cluster.deliver(processor)
    cluster.topics.fail = lambda: None
    processor.close()
    processor.open()
    cluster.deliver(processor)
    assert [plan.version for plan in cluster.plans] == [0, 1]


def test_grant_round_follows_the_ledgers(cluster):
    processor = cluster.open_planner()
    for look in (1, 2, 3, 4):
        for lane in (0, 1):
            cluster.view.write(lane, arrived=look)
        cluster.view.write(
            2,
            released=np.maximum(
                processor._planner.accounts[2].available(cluster.plan.granted[2]) - cluster.plan.target[2], 0
            ),
        )
        cluster.next_round(processor)
    assert cluster.plan.target[:2].sum() > 0
    assert cluster.plan.granted[:2].sum() > 0
    revision = cluster.plan.revision
    cluster.next_round(processor)
    cluster.next_round(processor)
    assert cluster.plan.revision <= revision + 1, "an unchanged plan is not published again"


def test_grant_round_before_ledgers_are_read_publishes_nothing(cluster):
    processor = cluster.open_planner()
    cluster.view.ready = False
    cluster.view.write(0, arrived=200)
    cluster.next_round(processor)
    assert len(cluster.plans) == 1
    cluster.view.ready = True
    cluster.next_round(processor)
    assert cluster.plan.period == 2


def test_grant_round_during_continuous_samples_happens_when_due(cluster):
    processor = cluster.open_planner()
    cluster.view.write(0, arrived=200)
    cluster.sample(1)
    cluster.deliver(processor)
    assert cluster.plan.period == 1
    cluster.now += ROUND_SECONDS
    cluster.sample(1)
    cluster.deliver(processor)
    assert cluster.plan.period == 2


def test_grant_round_during_burst_happens_early(cluster):
    processor = cluster.open_planner()
    cluster.next_round(processor)
    cluster.view.write(0, arrived=1)
    processor.process([])
    assert processor._planner.arrived == 1
    assert processor._planner.traffic.uncounted == 1, "too few queries for a grant round"
    cluster.view.write(0, arrived=5)
    processor.process([])
    assert processor._planner.traffic.uncounted == 0


def test_grant_round_interval_shrinks_at_both_ends_of_a_period(cluster):
    cluster.limits = PlannerLimits(longest_round_seconds=ROUND_SECONDS, max_queries_per_second=4)
    cluster.now = 1000.0
    processor = cluster.open_planner()
    assert processor.has_pending_work
    waits = []
    for arrived in range(1, 100):
        cluster.now += ROUND_SECONDS
        assert processor.has_pending_work
        cluster.view.write(0, arrived=arrived)
        processor.process([])
        waits.append(processor._round_seconds)
        assert processor.has_pending_work == (arrived > 50), "a burst could bring all remaining queries"
    assert waits[0] == 0.01, "the rate is unknown"
    assert waits[10] == ROUND_SECONDS
    assert waits[80] == pytest.approx(ROUND_SECONDS * 19 / 50)
    assert waits[-1] == 0.01


def test_limit_with_held_samples_pauses_reading(cluster):
    """A lane samples all waiting queries in warm-up. The log keeps samples that no solve needs yet."""
    cluster.limits = PlannerLimits(held_samples=25)
    cluster.settings = cluster.settings.model_copy(update={"batch_max": 10})
    processor = cluster.open_planner()
    for _ in range(30):
        cluster.sample(10)
    assert processor.max_records == 3
    while processor.max_records and processor.next_offset < 30:
        cluster.deliver(processor, processor.max_records)
    assert processor._planner.plan.version == 1
    assert processor.next_offset < 10
    assert 25 <= processor._planner.queued_samples < 25 + 30
    # decided queries make later solves due, which use the held samples
    for arrived in (20, 40, 80, 99):
        cluster.view.write(0, arrived=arrived)
        cluster.next_round(processor)
        while processor.max_records and processor.next_offset < 30:
            cluster.deliver(processor, processor.max_records)
    assert cluster.plan.version == 4
    assert processor.next_offset == 30


def test_warmup_of_slow_stream_ends_at_time_limit(cluster):
    processor = cluster.open_planner()
    cluster.next_round(processor)
    cluster.sample(3)
    cluster.deliver(processor)
    cluster.next_round(processor)
    assert not cluster.plan.learned
    assert cluster.plan.solved_from.warmup_seconds == 5, "readers of the plan find the limit there"
    cluster.now += 5.1
    cluster.next_round(processor)
    assert cluster.plan.learned
    assert cluster.plan.solved_from.observed == 3


def test_warmup_wait_is_logged_once(cluster):
    processor = cluster.open_planner()
    cluster.next_round(processor)
    with capture_logs() as logs:
        for _ in range(2):
            cluster.sample(3)
            cluster.deliver(processor)
    (waits,) = [line for line in logs if line["event"] == "warmup_waits"]
    assert (waits["wanted"], waits["at_most_seconds"]) == (10, 5)


def test_open_with_too_few_samples_logs_warning(cluster):
    with capture_logs() as logs:
        cluster.open_planner()
    (warning,) = [line for line in logs if line["event"] == "few_samples"]
    assert "10 samples (0.1 of 100 queries) are too few to price 2 LLMs; 20 would do" in warning["reason"]


def test_warmup_time_limit_runs_on_across_short_periods(cluster):
    processor = cluster.open_planner()
    cluster.next_round(processor)
    cluster.sample(3)
    cluster.deliver(processor)
    for period in (2, 3):
        processor._begin_period(processor._planner)
        cluster.next_round(processor)
        cluster.sample(3, period=period)
        cluster.deliver(processor)
        cluster.now += 2.6
        cluster.next_round(processor)
        assert cluster.plan.period == period
    assert cluster.plan.learned
    # once there are prices, no query waits
    processor._begin_period(processor._planner)
    assert processor._first_sample is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"[]",
        b'{"shape": [1, 2], "dtype": "<f8", "quality": "AA==", "cost": ""}',
    ],
)
def test_observe_invalid_sample_skips_it(cluster, value):
    processor = cluster.open_planner()
    cluster.topics.add(cluster.names.samples, value)
    cluster.sample(5, lane=99)
    cluster.sample(5, models=("a",))
    cluster.sample(5, models=("b", "a"))
    cluster.sample(10)
    cluster.deliver(processor)
    assert cluster.plan.version == 1
    assert cluster.plan.solved_from.observed == 10


def test_paused_llm_is_in_the_plan_and_prices_are_learned_again_without_it(cluster):
    processor = cluster.open_planner()
    cluster.sample(20)
    cluster.deliver(processor)
    price = cluster.plan.prices.tolist()
    cluster.catalogue.pauses = {"a": ManualPause(cluster.now)}
    cluster.next_round(processor)
    assert cluster.plan.paused == {"a": Pause("paused by hand", 0.0)}
    assert cluster.plan.budgets.tolist() == [10**10, 2 * 10**10]
    assert cluster.plan.prices.tolist() == price
    cluster.view.write(0, arrived=20)
    cluster.sample(40, arrived=40)
    cluster.deliver(processor)
    cluster.view.write(0, arrived=60)
    cluster.next_round(processor)
    assert cluster.plan.version > 1
    assert cluster.plan.prices[0] == price[0], "a paused LLM keeps its price"
    assert cluster.plan.prices[1] != price[1]
    successor = cluster.open_planner()
    cluster.catalogue.pauses = {}
    cluster.next_round(successor)
    assert not cluster.plan.paused
