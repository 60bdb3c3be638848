"""How long a broker holds a fetch: until something comes, or a few milliseconds while much comes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

QUIET_WAIT_MS = 200
"""Longest wait of the broker when there is nothing to fetch."""

BUSY_WAIT_MS, BUSY_BYTES = 30, 64 * 1024
"""In busy times it answers after so many milliseconds, or as soon as it has so many bytes.

At 500 queries/s on two cores that is less than what fetches three times as often cost all the others.
"""

BUSY_RATE = 300.0
"""Records a second from which fetches are held: a fetch for each record costs broker and worker more than
the record itself."""

MEMORY_SECONDS = 0.1
"""The rate is that of the last so many seconds, older ones counting less."""


class FetchPace:
    """What the next fetch asks of the broker, by how much has come lately.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted_at = clock()
        self.rate = 0.0
        """Records a second of late."""

    def count(self, records: int) -> None:
        """Take in what a fetch brought."""
        now = self._clock()
        self.rate = self.rate * math.exp((self._counted_at - now) / MEMORY_SECONDS) + records / MEMORY_SECONDS
        self._counted_at = now

    @property
    def least_bytes(self) -> int:
        """Bytes from which the broker answers at once."""
        return BUSY_BYTES if self.rate > BUSY_RATE else 1

    @property
    def wait_ms(self) -> int:
        """Milliseconds after which it answers in any case."""
        return BUSY_WAIT_MS if self.rate > BUSY_RATE else QUIET_WAIT_MS
