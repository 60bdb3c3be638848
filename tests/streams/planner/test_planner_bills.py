"""The planner's processor: bills of periods."""

import numpy as np
import pytest
from confluent_kafka import KafkaException

from streams.ledger.period_summary import decode_period
from streams.planner.planner import PlannerProcessor
from streams.planner.planner_limits import SUMMARY_PAUSES, SUMMARY_SECONDS
from tests.streams.planner.memory_cluster import ROUND_SECONDS, MemoryCluster


def test_period_end_publishes_its_bill(cluster):
    processor = cluster.open_planner()
    cluster.view.write(0, arrived=60, served=np.array([40, 10]), charged=np.array([5, 6]), unserved=10)
    cluster.view.write(1, arrived=50, served=np.array([0, 50]), charged=np.array([0, 9]))
    cluster.sample(10)
    cluster.deliver(processor)
    cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.version, cluster.plan.learned) == (2, 1, True)
    assert cluster.plan.solved_from.samples_from == 1, "the new period's samples start here"
    cluster.next_round(processor)
    newest = {m.key(): decode_period(m.value()) for m in cluster.topics.of(cluster.names.periods)}
    assert newest[b"1"].charged == [5, 15]
    assert newest[b"1"].arrived == 110
    # samples of the last period do not count in the new one
    cluster.sample(10, period=1)
    cluster.deliver(processor)
    assert processor._planner.observed == 0


LANES = (0, 1, 2)
HUNDRED = {"arrived": 100, "served": np.array([60, 40]), "charged": np.array([6, 4])}


def all_in_period_one(cluster: MemoryCluster) -> PlannerProcessor:
    processor = cluster.open_planner()
    for lane in LANES:
        cluster.view.write(lane)
    cluster.next_round(processor)
    return processor


def test_bill_includes_commits_of_lane_two_periods_behind(cluster):
    """The lane's last transaction of period 1 commits in period 3."""
    processor = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    cluster.next_round(processor)
    cluster.view.enter(2, 0, 2)
    cluster.view.change(0, 2, **HUNDRED)
    cluster.next_round(processor)
    cluster.view.enter(3, 0, 2)
    assert cluster.plan.period == 3
    cluster.view.write(1, arrived=7, served=np.array([7, 0]), charged=np.array([7, 0]))
    cluster.next_round(processor)
    assert (cluster.bills[1].closed, cluster.bills[1].charged) == (False, [13, 4])
    cluster.view.enter(3, 1)
    cluster.next_round(processor)
    assert [cluster.bills[period].closed for period in (1, 2, 3)] == [True, True, False]
    assert cluster.bills[1].charged == [13, 4]
    assert cluster.bills[1].settling


def test_bill_of_previous_period_includes_settlements_of_last_round(cluster):
    processor = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    cluster.next_round(processor)
    cluster.view.enter(2, *LANES)
    cluster.next_round(processor)
    cluster.view.change(0, 1, settled=np.array([9, 5]), settlements=HUNDRED["served"])
    cluster.view.change(0, 2, **HUNDRED)
    cluster.next_round(processor)
    assert cluster.plan.period == 3
    assert cluster.bills[1].settled == [9, 5]
    assert (cluster.bills[1].closed, cluster.bills[1].settling) == (True, False)
    assert cluster.plan.billed == 1, "lanes may forget it"
    # two periods later
    cluster.view.enter(3, *LANES)
    cluster.view.change(0, 2, lapsed=np.array([1, 0]))
    cluster.next_round(processor)
    assert cluster.bills[2].lapsed == [1, 0]


def test_period_end_publishes_bill_before_next_plan(cluster):
    """The bill does not wait for its interval, because lanes may forget the account."""
    processor = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    processor._billed_at = cluster.now + ROUND_SECONDS - SUMMARY_SECONDS / 2
    cluster.now += ROUND_SECONDS
    plans, commits = len(cluster.plans), cluster.topics.commits
    processor.process([])
    assert cluster.plan.period == 2
    assert cluster.bills[1].charged == [6, 4]
    assert cluster.topics.commits == commits + 2, "the bill, then the plan"
    assert len(cluster.plans) == plans + 1


@pytest.mark.parametrize("rolled", [False, True])
def test_successor_publishes_missing_bill_of_predecessor(cluster, rolled):
    processor = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    cluster.next_round(processor)
    cluster.view.enter(2, *LANES)
    if rolled:
        cluster.view.change(1, 2, **HUNDRED)
        cluster.next_round(processor)
        cluster.view.enter(3, *LANES)
    cluster.view.change(0, 1, settled=np.array([3, 3]), settlements=HUNDRED["served"])
    successor = cluster.open_planner()
    cluster.next_round(successor)
    bill = cluster.bills[1]
    assert (bill.settled, bill.closed, bill.settling) == ([3, 3], True, False)
    assert bill.budgets == cluster.plans[0].budgets.tolist()
    cluster.view.change(0, 1, settled=np.array([4, 4]))
    with pytest.raises(KafkaException):
        cluster.next_round(processor)
    assert cluster.bills[1] == bill, "a fenced planner publishes no bill"


def test_final_bill_is_unchanged_after_lanes_forget(cluster):
    processor = all_in_period_one(cluster)
    cluster.view.write(0, arrived=100, unserved=100)
    cluster.next_round(processor)
    cluster.view.enter(2, *LANES)
    cluster.view.change(0, 2, **HUNDRED)
    cluster.next_round(processor)
    assert (cluster.plan.period, cluster.plan.billed) == (3, 1)
    bill = cluster.bills[1]
    cluster.view.enter(3, *LANES)
    cluster.view.kept[0] = cluster.view.kept[0].forgetting(1)
    cluster.next_round(processor)
    cluster.next_round(cluster.open_planner())
    assert cluster.bills[1] == bill
    assert cluster.bills[2].charged == [6, 4]


def test_bills_follow_a_commit_that_waited_for_its_broker_at_once(cluster):
    processor = all_in_period_one(cluster)

    def wait_a_minute() -> None:
        cluster.now += 60.0

    cluster.view.write(0, arrived=50, served=np.array([30, 20]), charged=np.array([3, 2]))
    cluster.topics.fail = wait_a_minute
    cluster.next_round(processor)
    cluster.topics.fail = lambda: None
    cluster.view.write(0, arrived=60, served=np.array([35, 25]), charged=np.array([4, 2]))
    cluster.next_round(processor)
    assert cluster.bills[1].charged == [4, 2]


def test_bills_that_take_long_to_compute_leave_time_for_the_rest(cluster):
    processor = all_in_period_one(cluster)

    def compute() -> None:
        cluster.computed += 0.1

    cluster.view.write(0, arrived=50, served=np.array([30, 20]), charged=np.array([3, 2]))
    cluster.topics.fail = compute
    cluster.next_round(processor)
    cluster.view.write(0, arrived=60, served=np.array([35, 25]), charged=np.array([4, 2]))
    for _ in range(int(0.1 * SUMMARY_PAUSES / ROUND_SECONDS) - 1):
        cluster.next_round(processor)
        assert cluster.bills[1].charged == [3, 2]
    cluster.next_round(processor)
    assert cluster.bills[1].charged == [4, 2]
