"""Health checks."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streams.lanes.unreadable import Unreadable
from streams.telemetry.health import ASSIGN_SECONDS, CONFIRM_SECONDS, PATIENCE_SECONDS, Health


class House:
    """A worker's lanes, as health sees them, and the clock and the broker beside them."""

    def __init__(self, *numbers: int) -> None:
        self.now = 1000.0
        self.halted: str | None = None
        self.halted_by = "topics"
        self.on_broker: set[tuple[str, int]] = set()
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.all: dict[tuple[str, int], Any] = {}
        for number in numbers:
            self.all["queries", number] = SimpleNamespace(
                topic="queries",
                partition=number,
                assigned=True,
                open=True,
                pending=[],
                processor=SimpleNamespace(next_offset=0, max_records=1000),
            )
        self.plans = SimpleNamespace(ready=True, failure=None)
        self.plan = True
        self.unreadable: dict[tuple[str, int], Unreadable] = {}
        self.health = Health(
            lambda: self,
            {"plans": self.plans},
            lambda: self.plan,
            self._ask,
            lambda: self.now,  # type: ignore[arg-type, return-value]
            unreadable=lambda: self.unreadable,
        )

    def _ask(self, places: Any) -> set[tuple[str, int]]:
        self.asked += 1
        return self.on_broker & set(places)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            self.health.observe_lanes()

    def live(self) -> bool:
        return asyncio.run(self.health.live()).ok


DAMAGED = {("queries", 1): Unreadable(40, 44, "damaged")}


def why(house: House) -> str:
    return next(check.detail for check in asyncio.run(house.health.live()).checks if not check.ok)


def test_live_with_a_progressing_lane_passes():
    house = House(0)
    lane = house.all["queries", 0]
    lane.pending = ["record"] * 2000
    for _ in range(20):
        lane.processor.next_offset += 64
        house.pass_time(10)
    assert house.live()


def test_live_with_a_blocked_lane_fails():
    house = House(0, 1)
    house.all["queries", 1].pending = ["record"]
    house.pass_time(PATIENCE_SECONDS - 5)
    assert house.live()
    house.pass_time(10)
    assert not house.live()
    assert "queries:1 stands still" in why(house)


def test_live_with_a_lane_that_waits_for_a_plan_passes():
    house = House(0)
    lane = house.all["queries", 0]
    lane.pending, lane.processor.max_records = ["record"], 0
    house.pass_time(5 * PATIENCE_SECONDS)
    assert house.live()


def test_live_with_an_idle_lane_passes_without_records_on_the_broker():
    house = House(0)
    house.pass_time(3 * PATIENCE_SECONDS)
    assert house.live()
    assert house.asked == 1
    assert house.live()
    assert house.asked == 1  # asked again only after as long


def test_live_with_unfetched_records_fails_at_the_second_probe():
    house = House(0)
    house.pass_time(2 * PATIENCE_SECONDS)
    house.on_broker = {("queries", 0)}
    assert house.live()  # it may have come this moment
    house.pass_time(CONFIRM_SECONDS + 2)
    assert not house.live()
    house.all["queries", 0].processor.next_offset = 7
    house.pass_time(1)
    assert house.live()


def test_live_with_a_lane_that_does_not_open_fails():
    house = House(0)
    house.all["queries", 0].open = False
    house.pass_time(PATIENCE_SECONDS + 5)
    assert not house.live()


def test_live_with_a_failed_reader_or_no_assignment_fails():
    house = House()
    house.plans.failure = RuntimeError("gone")
    assert not house.live()
    house = House()
    house.gate.clear()
    house.pass_time(ASSIGN_SECONDS + 5)
    assert not house.live()


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (lambda house: setattr(house.plans, "ready", False), "plans read"),
        (lambda house: setattr(house, "plan", False), "plan"),
        (lambda house: house.gate.clear(), "partitions assigned"),
        (lambda house: setattr(house.all["queries", 1], "open", False), "ledgers recovered"),
        (lambda house: house.unreadable.update(DAMAGED), "partitions readable"),
    ],
)
def test_ready_with_one_failed_condition_fails(break_it: Any, name: str):
    house = House(0, 1)
    assert house.health.ready().ok
    break_it(house)
    verdict = house.health.ready()
    assert [check.name for check in verdict.checks if not check.ok] == [name]


def test_live_with_an_unreadable_partition_passes():
    """The broker has records for it, and another worker cannot read them either."""
    house = House(0, 1)
    house.unreadable.update(DAMAGED)
    house.on_broker = {("queries", 1)}
    house.pass_time(2 * PATIENCE_SECONDS)
    assert house.live()
    house.pass_time(2 * CONFIRM_SECONDS)
    assert house.live()
    (check,) = [check for check in house.health.ready().checks if not check.ok]
    assert check.detail == "queries:1 offsets 40 to 43 cannot be read: damaged"
    # readable again: it has to move as any other
    house.unreadable.clear()
    assert house.live()
    house.pass_time(CONFIRM_SECONDS + 2)
    assert not house.live()


def test_live_and_ready_with_halted_lanes_fail():
    house = House(0)
    house.halted = "topic queries: was deleted and created again"
    assert not house.live()
    assert house.halted in why(house)
    assert not house.health.ready().ok


def test_halt_by_dead_letters_is_not_ready_and_stays_live():
    house = House(0)
    house.halted, house.halted_by = "900 of the last 1000 queries became dead letters", "dead letters"
    assert house.live()
    failed = {check.name: check.detail for check in house.health.ready().checks if not check.ok}
    assert house.halted in failed["dead letters"]
