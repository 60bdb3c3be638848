"""Troubles that go on, such as a broker that is away: told at first, now and then, and when they are over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

QUIET_SECONDS = 30.0
"""Least time between two lines about the same trouble."""

LIBRARIES = ("aiokafka", "kafka", "mode", "faust.transport")


class Trouble:
    """One thing that may go wrong at every attempt. May be used from several threads.

    Parameters
    ----------
    event, over : str
        What is logged while it lasts, and once when it is over.
    clock : callable
        Monotonic seconds.
    fields
        Logged with both.
    """

    def __init__(
        self, event: str, over: str, clock: Callable[[], float] = time.monotonic, **fields: Any
    ) -> None:
        self._event, self._over, self._clock, self._fields = event, over, clock, fields
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told_at = 0.0
        self._attempts = 0

    def happened(self, **fields: Any) -> None:
        """It went wrong, for the first time or again."""
        with self._lock:
            now = self._clock()
            first = self._since is None
            if self._since is None:
                self._since, self._attempts = now, 0
            self._attempts += 1
            if not first and now - self._told_at < QUIET_SECONDS:
                return
            self._told_at = now
            told = {} if first else {"attempts": self._attempts, "seconds": round(now - self._since, 1)}
        log.warning(self._event, **self._fields, **fields, **told)

    def ended(self) -> None:
        """It went well."""
        if self._since is None:
            return
        with self._lock:
            if self._since is None:
                return
            seconds, self._since = round(self._clock() - self._since, 1), None
        log.info(self._over, **self._fields, attempts=self._attempts, seconds=seconds)


class Seldom(logging.Filter):
    """Lets a warning of the Kafka libraries through at first and then seldom, and tells how often it came.

    They log every attempt to reach a broker that is away, on every connection, some with a traceback of their
    own waiting. Lines that differ only in what they are about (a node, an attempt) count as the same.

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
        """Whether it is logged; the traceback of a broker that is away becomes its last line."""
        if record.levelno < logging.WARNING or not record.name.startswith(LIBRARIES):
            return True
        key, now = (record.name, record.levelno, str(record.msg)), self._clock()
        told_at, kept_back = self._known.get(key, (-QUIET_SECONDS, 0))
        if now - told_at < QUIET_SECONDS:
            self._known[key] = (told_at, kept_back + 1)
            return False
        self._known[key] = (now, 0)
        if kept_back:
            record.repeated = kept_back
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _of_the_network(error):
            record.exc_info = None
            record.reason = repr(error)
        return True


def _of_the_network(error: BaseException) -> bool:
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith("aiokafka.")
