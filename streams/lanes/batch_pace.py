"""The batch size of one lane, chosen by the measured time per record."""

from __future__ import annotations

BATCH_SECONDS = 1.0
"""Longest expected time of a batch, so that a worker with a slow embedder can stop in time."""

MIN_BATCH_RECORDS = 16
"""Records that a batch may always have, however slow they are."""

FIRST_BATCH_RECORDS = 64
"""Maximum records of a batch before the first measurement."""

OVERHEAD_SECONDS = 0.05
"""Fixed time of a transaction, not counted as time of its records.

Otherwise small batches would look slow and stay small.
"""


class BatchPace:
    """Moving average of the seconds per record."""

    def __init__(self) -> None:
        self._record_seconds = 0.0

    @property
    def max_records(self) -> int:
        """Number of records that take about `BATCH_SECONDS`."""
        if self._record_seconds == 0:
            return FIRST_BATCH_RECORDS
        return max(MIN_BATCH_RECORDS, int(BATCH_SECONDS / self._record_seconds))

    def record(self, seconds: float, records: int) -> None:
        """Record the time of one transaction; small ones are ignored, as their overhead dominates."""
        if records < MIN_BATCH_RECORDS:
            return
        measured = max(seconds - OVERHEAD_SECONDS, 1e-6) / records
        known = self._record_seconds
        self._record_seconds = measured if known == 0 else 0.7 * known + 0.3 * measured
