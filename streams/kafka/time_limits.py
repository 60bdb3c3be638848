"""Time limits for calls that can ignore their own: the process logs the call and ends with status 1."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
LOG_SECONDS = 2.0
"""Maximum wait for the last log line: standard error may be a pipe without a reader."""

MAX_ABANDONED = 20
"""Abandoned calls that a process may hold. Each keeps a client with its threads and connections."""

T = TypeVar("T")


class CallOverdue(Exception):  # noqa: N818 - named as the log event is
    """A call did not return within its time limit and was abandoned."""


@dataclass(frozen=True, eq=False)
class _Limit:
    call: str
    seconds: float


class Watchdog:
    """A thread that ends the process when a call does not return within its limit.

    Its clock counts only time in which the process runs: a frozen process that is resumed has lost nothing.

    Parameters
    ----------
    end : callable
        Ends the process; it is called with the name of the call and its limit in seconds.
    """

    def __init__(self, end: Callable[[str, float], None]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._deadlines: dict[_Limit, float] = {}
        self._clock = 0.0
        self._thread: threading.Thread | None = None
        self._nested = threading.local()

    @contextmanager
    def limit(self, call: str, seconds: float) -> Iterator[None]:
        """Watch a call; a limit inside another one suspends it, and it starts again afterwards."""
        stack: list[_Limit] = self._nested.__dict__.setdefault("stack", [])
        outer = stack[-1] if stack else None
        inner = _Limit(call, seconds)
        stack.append(inner)
        self._swap(outer, inner)
        try:
            yield
        finally:
            stack.pop()
            self._swap(inner, outer)

    def arm(self, call: str, seconds: float) -> None:
        """Set a deadline that nothing lifts but the end of the process."""
        self._swap(None, _Limit(call, seconds))

    def _swap(self, removed: _Limit | None, added: _Limit | None) -> None:
        with self._lock:
            if removed is not None:
                self._deadlines.pop(removed, None)
            if added is not None:
                # a tick of slack: the clock stands still between two ticks
                self._deadlines[added] = self._clock + added.seconds + TICK_SECONDS
                if self._thread is None:
                    self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                    self._thread.start()

    def _watch(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            with self._lock:
                self._clock += min(now - last, 2 * TICK_SECONDS)
                overdue = [limit for limit, at in self._deadlines.items() if at < self._clock]
                for limit in overdue:
                    del self._deadlines[limit]
            last = now
            for limit in overdue:
                self._end(limit.call, limit.seconds)


def end_process(call: str, seconds: float) -> None:
    """Log which call is overdue and end the process with status 1, whatever its other threads do."""
    writing = threading.Thread(target=_log_end, args=(call, seconds), daemon=True)
    writing.start()
    writing.join(LOG_SECONDS)
    os._exit(1)


def _log_end(call: str, seconds: float) -> None:
    log.error("call_overdue", call=call, limit_seconds=seconds, exit_status=1)
    for handler in logging.root.handlers:
        handler.flush()
    sys.stderr.flush()


_WATCHDOG = Watchdog(end_process)

time_limit = _WATCHDOG.limit
"""Context manager: `with time_limit(call, seconds)` ends the process when the block takes longer."""

exit_after = _WATCHDOG.arm
"""Function: `exit_after(call, seconds)` ends the process unless it ends by itself before."""


class Abandonable:
    """Runs calls in threads of their own, so that one which does not return can be abandoned.

    Parameters
    ----------
    maximum : int
        Abandoned calls that have not returned; with more of them the process ends.
    end : callable
        As `Watchdog` takes it.
    """

    def __init__(self, maximum: int, end: Callable[[str, float], None]) -> None:
        self._maximum, self._end = maximum, end
        self._abandoned: set[threading.Thread] = set()

    def call(self, name: str, seconds: float, function: Callable[..., T], *arguments: Any) -> T:
        """Return or raise what the function does.

        Raises
        ------
        CallOverdue
            It does neither within `seconds`. Its thread goes on, so its client must not be used any more.
        """
        outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                outcome.put((function(*arguments), None))
            except BaseException as error:
                outcome.put((None, error))

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        try:
            result, error = outcome.get(timeout=seconds)
        except queue.Empty:
            self._abandon(thread, name, seconds)
            raise CallOverdue(f"{name} did not return within {seconds:g} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def _abandon(self, thread: threading.Thread, name: str, seconds: float) -> None:
        self._abandoned = {other for other in self._abandoned if other.is_alive()} | {thread}
        log.error("call_abandoned", call=name, limit_seconds=seconds, abandoned=len(self._abandoned))
        if len(self._abandoned) > self._maximum:
            self._end(name, seconds)


call_within = Abandonable(MAX_ABANDONED, end_process).call
"""Function: `call_within(name, seconds, function, *arguments)` raises `CallOverdue` after the time limit."""
