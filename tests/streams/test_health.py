"""Health: standing still with work to do is not live, having nothing to do is; ready means it can route."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streams.health import ASSIGN_SECONDS, CONFIRM_SECONDS, PATIENCE_SECONDS, Health


class House:
    """A worker's lanes, as health sees them, and the clock and the broker beside them."""

    def __init__(self, *numbers: int) -> None:
        self.now = 1000.0
        self.on_broker: set[tuple[str, int]] = set()
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.all: dict[tuple[str, int], Any] = {}
        for number in numbers:
            self.all["queries", number] = SimpleNamespace(
                topic="queries", partition=number, assigned=True, open=True, pending=[],
                desk=SimpleNamespace(position=0, limit=1000),
            )  # fmt: skip
        self.plans = SimpleNamespace(ready=True, failure=None)
        self.plan = True
        self.health = Health(
            lambda: self, {"plans": self.plans}, lambda: self.plan, self._ask, lambda: self.now  # type: ignore[arg-type, return-value]
        )  # fmt: skip

    def _ask(self, places: Any) -> set[tuple[str, int]]:
        self.asked += 1
        return self.on_broker & set(places)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            self.health.look()

    def live(self) -> bool:
        return asyncio.run(self.health.live()).ok


def why(house: House) -> str:
    return next(check.detail for check in asyncio.run(house.health.live()).checks if not check.ok)


def test_a_lane_that_moves_is_live_however_much_waits():
    house = House(0)
    lane = house.all["queries", 0]
    lane.pending = ["record"] * 2000
    for _ in range(20):
        lane.desk.position += 64
        house.pass_time(10)
    assert house.live()


def test_a_lane_that_stands_still_with_records_is_not_live():
    house = House(0, 1)
    house.all["queries", 1].pending = ["record"]
    house.pass_time(PATIENCE_SECONDS - 5)
    assert house.live()
    house.pass_time(10)
    assert not house.live()
    assert "queries:1 stands still" in why(house)


def test_a_lane_that_waits_for_a_plan_has_nothing_to_do():
    house = House(0)
    lane = house.all["queries", 0]
    lane.pending, lane.desk.limit = ["record"], 0
    house.pass_time(5 * PATIENCE_SECONDS)
    assert house.live()


def test_an_idle_lane_is_live_while_the_broker_has_nothing_for_it():
    house = House(0)
    house.pass_time(3 * PATIENCE_SECONDS)
    assert house.live()
    assert house.asked == 1
    assert house.live()
    assert house.asked == 1  # asked again only after as long


def test_a_lane_that_fetches_nothing_of_what_the_broker_has_is_not_live_after_a_second_look():
    house = House(0)
    house.pass_time(2 * PATIENCE_SECONDS)
    house.on_broker = {("queries", 0)}
    assert house.live()  # it may have come this moment
    house.pass_time(CONFIRM_SECONDS + 2)
    assert not house.live()
    house.all["queries", 0].desk.position = 7
    house.pass_time(1)
    assert house.live()


def test_a_lane_that_cannot_be_opened_is_not_live():
    house = House(0)
    house.all["queries", 0].open = False
    house.pass_time(PATIENCE_SECONDS + 5)
    assert not house.live()


def test_a_reader_that_died_and_an_assignment_that_never_comes_are_not_live():
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
    ],
)
def test_ready_needs_all_of_it(break_it: Any, name: str):
    house = House(0, 1)
    assert house.health.ready().ok
    break_it(house)
    verdict = house.health.ready()
    assert [check.name for check in verdict.checks if not check.ok] == [name]
