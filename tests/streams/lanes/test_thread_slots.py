"""Slots of working threads: how many at a time, given back early, after errors, and measured."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from streams.lanes.thread_slots import ThreadSlots


def test_run_only_so_many_threads_at_a_time() -> None:
    slots, lock = ThreadSlots(2), threading.Lock()
    working: set[int] = set()
    most: list[int] = []

    def work(number: int) -> None:
        with lock:
            working.add(number)
            most.append(len(working))
        threading.Event().wait(0.002)
        with lock:
            working.discard(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: slots.run(work, number), range(40)))
    assert len(most) == 40
    assert max(most) == 2


def test_give_back_lets_another_thread_work_while_this_one_waits() -> None:
    slots, other_has_run = ThreadSlots(1), threading.Event()

    def waits(_: object) -> None:
        slots.give_back()
        assert other_has_run.wait(10), "no other thread got the slot"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slots.run, waits, None)
        pool.submit(slots.run, lambda _: other_has_run.set(), None).result(10)
        first.result(10)


def test_give_back_twice_or_without_a_slot_frees_no_further_one() -> None:
    slots = ThreadSlots(1)
    slots.give_back()
    slots.run(lambda _: (slots.give_back(), slots.give_back()), None)
    entered, leave = threading.Event(), threading.Event()

    def stays(_: object) -> None:
        entered.set()
        leave.wait(10)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(slots.run, stays, None)
        assert entered.wait(10)
        second = pool.submit(slots.run, lambda _: None, None)
        with pytest.raises(TimeoutError):
            second.result(0.05)
        leave.set()
        second.result(10)


def test_run_error_frees_the_slot() -> None:
    slots = ThreadSlots(1)
    with pytest.raises(ZeroDivisionError):
        slots.run(lambda _: 1 / 0, None)
    slots.run(lambda _: None, None)


def test_run_returns_seconds_until_the_slot_is_given_back() -> None:
    ticks = count(10.0)
    slots = ThreadSlots(1, lambda: next(ticks))
    assert slots.run(lambda _: next(ticks), None) == 2
    assert slots.run(lambda _: (slots.give_back(), next(ticks)), None) == 1
