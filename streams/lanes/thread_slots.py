"""Slots for threads that work: about as many at a time as there are processors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class ThreadSlots:
    """Let a number of threads work at a time, and measure how long each of them does.

    Every lane has a thread. If 64 of them decided at the same time, the one that writes their transaction
    would get the interpreter lock once in 64 times.

    Parameters
    ----------
    count : int
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free, self._thread, self._clock = threading.Semaphore(count), _Thread(), clock

    def run(self, function: Callable[[Any], object], argument: Any) -> float:
        """Call a function once there is a slot, and return the seconds for which it had it."""
        self._free.acquire()
        self._thread.began, self._thread.seconds = self._clock(), None
        try:
            function(argument)
        finally:
            self.give_back()
        seconds = self._thread.seconds
        assert seconds is not None
        return seconds

    def give_back(self) -> None:
        """Give this thread's slot back, if it has one, before it waits for something else."""
        if self._thread.seconds is None:
            self._thread.seconds = self._clock() - self._thread.began
            self._free.release()


class _Thread(threading.local):
    began: float = 0.0
    seconds: float | None = 0.0
    """For which the thread has had its slot; None while it has it."""
