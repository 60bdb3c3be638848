"""One transaction for all lanes of a worker: faults in the middle of a round, and restarts in place.

Needs Apache Kafka (the fixture `kafka` finds or starts it).
"""

from __future__ import annotations

from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.round_faults import FREEZE, HOLD, KILL, FaultsInRounds, met
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.worker_process import Worker, wait_for


def send_until(stream: Router, worker: Worker, fault: int, count: int) -> None:
    """Send queries until a worker has met a fault in a round."""

    def sent_one_more() -> bool:
        start = len(stream.sent)
        stream.send(range(start, start + 20), tag=f"{start}-")
        return met(worker, fault) >= count

    wait_for(sent_one_more, 60, f"{worker.log} has met the fault", pause=0.1)


def test_rebalance_freeze_and_death_in_the_middle_of_a_round_lose_nothing(router: MakeRouter) -> None:
    stream = router(partitions=4, batch_max=20)
    first = stream.start(FaultsInRounds(hold_seconds=4.0), ready=True)
    stream.send(range(100), tag="begin-")
    stream.landed_at_least(50)

    # A rebalance begins and ends while a round is open, whose offsets were sent in the old generation.
    first.send(HOLD)
    send_until(stream, first, HOLD, 1)
    second = stream.start(FaultsInRounds(), ready=True)
    stream.all_landed()

    # A round stays open until the session has timed out and the second worker has taken all lanes over.
    first.send(FREEZE)
    send_until(stream, first, FREEZE, 1)
    stream.all_landed()
    first.thaw()
    start = len(stream.sent)
    stream.send(range(start, start + 100), tag=f"{start}-")
    stream.all_landed()

    # A process dies with its round open; the broker has its offsets.
    second.send(KILL)
    send_until(stream, second, KILL, 1)
    assert second.wait(30) == -9
    stream.all_landed()
    assert_whole(stream)


def test_restart_of_a_worker_with_an_id_moves_no_partition(router: MakeRouter) -> None:
    stream = router(partitions=2, session_timeout_seconds=20)
    stays = stream.start(ready=True, instance_id="a")
    first = stream.start(ready=True, instance_id="b")
    stream.send(range(200), tag="before-")
    stream.all_landed()
    assigned = len(list(stays.events("lanes_assigned")))
    lanes = list(first.events("lanes_assigned"))[-1]["lanes"]
    first.kill()
    again = stream.start(ready=True, instance_id="b")
    stream.send(range(200, 400), tag="after-")
    stream.all_landed()
    assert list(again.events("lanes_assigned"))[-1]["lanes"] == lanes
    assert len(list(stays.events("lanes_assigned"))) == assigned, "the other worker saw no rebalance"
    assert_whole(stream)
