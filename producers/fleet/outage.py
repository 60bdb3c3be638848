"""Outage of an endpoint: queries are returned without a request, except those that test the endpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

FIRST_TEST_SECONDS, LONGEST_TEST_SECONDS = 5.0, 60.0
"""Time from a failure to the next test: doubled after each test that fails, up to the longest."""


class EndpointOutage:
    """State of the endpoint, from the queries that were sent to it.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._next_test = 0.0
        self._pause = FIRST_TEST_SECONDS
        self.reason = ""

    @property
    def seconds(self) -> float:
        """Age of the outage in seconds; 0 without one."""
        return 0.0 if self._since is None else self._clock() - self._since

    def failed(self, reason: str) -> None:
        """Record that the endpoint answers no query, for a reason."""
        now = self._clock()
        if self._since is None:
            self._since, self._pause = now, FIRST_TEST_SECONDS
            log.error("endpoint_failed", reason=reason, fix="repair it; queries are returned to the router")
        self._next_test = max(self._next_test, now + self._pause)
        self.reason = reason

    def close(self, reason: str) -> None:
        """Let no query be sent any more, for a reason."""
        self._since, self._next_test, self.reason = self._clock(), math.inf, reason

    def answered(self) -> None:
        """Record an answer, which ends an outage."""
        if self._since is not None:
            log.info("endpoint_works_again", seconds=round(self.seconds, 1))
            self._since = None

    def may_send(self) -> bool:
        """Return whether a query may be sent; during an outage, one query for each test."""
        if self._since is None:
            return True
        now = self._clock()
        if now < self._next_test:
            return False
        self._pause = min(2 * self._pause, LONGEST_TEST_SECONDS)
        self._next_test = now + self._pause
        return True
