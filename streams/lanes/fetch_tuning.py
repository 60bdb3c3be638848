"""Fetch settings that follow the load: immediate answers, or collected records under load."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

QUIET_WAIT_MS = 200
"""Longest wait of the broker when there is nothing to fetch."""

BUSY_WAIT_MS, BUSY_BYTES = 30, 64 * 1024
"""Under load, the broker answers after this many milliseconds, or once it has this many bytes.

At 500 queries/s on two cores, three times as many fetches cost more time than this wait.
"""

BUSY_RATE = 300.0
"""Records per second from which the broker collects records.

A fetch per record costs broker and worker more than the record itself.
"""

MEMORY_SECONDS = 0.1
"""Time constant of the moving average of the rate."""


class FetchPace:
    """Settings of the next fetch, by the recent rate of records.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted_at = clock()
        self.rate = 0.0
        """Recent records per second."""

    def count(self, records: int) -> None:
        """Record the size of a fetch."""
        now = self._clock()
        self.rate = self.rate * math.exp((self._counted_at - now) / MEMORY_SECONDS) + records / MEMORY_SECONDS
        self._counted_at = now

    @property
    def min_bytes(self) -> int:
        """Minimum bytes for an immediate answer."""
        return BUSY_BYTES if self.rate > BUSY_RATE else 1

    @property
    def wait_ms(self) -> int:
        """Longest wait of the broker in milliseconds."""
        return BUSY_WAIT_MS if self.rate > BUSY_RATE else QUIET_WAIT_MS
