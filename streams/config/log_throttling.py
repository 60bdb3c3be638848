"""Recurring problems, such as a broker outage: logged at once, every half minute, and when they end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

QUIET_SECONDS = 30.0
"""Minimum interval between two log lines about the same problem."""

LIBRARIES = ("aiokafka", "kafka", "mode", "faust.transport")


class RecurringProblem:
    """A problem that may occur at every attempt; safe to use from several threads.

    Parameters
    ----------
    event, over : str
        Events logged while the problem lasts, and once when it ends.
    clock : callable
        Monotonic seconds.
    fields
        Fields of both events.
    """

    def __init__(
        self, event: str, over: str, clock: Callable[[], float] = time.monotonic, **fields: Any
    ) -> None:
        self._event, self._over, self._clock, self._fields = event, over, clock, fields
        self._lock = threading.Lock()
        self._since: float | None = None
        self._logged_at = 0.0
        self._attempts = 0

    def occurred(self, **fields: Any) -> None:
        """Record that the problem occurred."""
        with self._lock:
            now = self._clock()
            first = self._since is None
            if self._since is None:
                self._since, self._attempts = now, 0
            self._attempts += 1
            if not first and now - self._logged_at < QUIET_SECONDS:
                return
            self._logged_at = now
            repeated = {} if first else {"attempts": self._attempts, "seconds": round(now - self._since, 1)}
        log.warning(self._event, **self._fields, **fields, **repeated)

    def resolved(self) -> None:
        """Record that an attempt succeeded."""
        if self._since is None:
            return
        with self._lock:
            if self._since is None:
                return
            seconds, self._since = round(self._clock() - self._since, 1), None
        log.info(self._over, **self._fields, attempts=self._attempts, seconds=seconds)


class RepeatedWarningFilter(logging.Filter):
    """A filter that passes a repeated warning of the Kafka libraries every half minute, with its count.

    The libraries log every attempt to reach an unavailable broker, on every connection, some with tracebacks.
    Lines that differ only in their arguments, such as a node or an attempt, count as the same.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._known: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the record is logged; replace a network error's traceback by its last line."""
        if record.levelno < logging.WARNING or not record.name.startswith(LIBRARIES):
            return True
        key, now = (record.name, record.levelno, str(record.msg)), self._clock()
        logged_at, suppressed = self._known.get(key, (-QUIET_SECONDS, 0))
        if now - logged_at < QUIET_SECONDS:
            self._known[key] = (logged_at, suppressed + 1)
            return False
        self._known[key] = (now, 0)
        if suppressed:
            record.repeated = suppressed
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _of_the_network(error):
            record.exc_info = None
            record.reason = repr(error)
        return True


def _of_the_network(error: BaseException) -> bool:
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith("aiokafka.")
