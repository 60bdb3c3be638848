"""Partitions whose next records cannot be read. They pause, and the others continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streams.config.log_throttling import RecurringProblem

RETRY_SECONDS = 10.0
"""Seconds between two attempts to read such a partition."""

Place = tuple[str, int]


@dataclass(frozen=True)
class Unreadable:
    """A range of offsets that cannot be read.

    Parameters
    ----------
    offset : int
        First offset that cannot be read.
    end : int
        Offset after the last one of its batch, by the batch's header.
    reason : str
    """

    offset: int
    end: int
    reason: str

    def __str__(self) -> str:
        return f"offsets {self.offset} to {self.end - 1} cannot be read: {self.reason}"


class UnreadablePartitions:
    """The unreadable partitions of a worker, written by the consumer's thread and read by others.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ranges: dict[Place, tuple[Unreadable, float]] = {}
        self._troubles: dict[Place, RecurringProblem] = {}

    def failed(self, place: Place, unreadable: Unreadable) -> None:
        """Record that a fetch of a partition could not be read, and log it."""
        self._ranges[place] = (unreadable, self._clock())
        if place not in self._troubles:
            topic, partition = place
            self._troubles[place] = RecurringProblem(
                "partition_unreadable", "partition_readable", self._clock, topic=topic, partition=partition
            )
        self._troubles[place].occurred(
            offset=unreadable.offset,
            end=unreadable.end,
            reason=unreadable.reason,
            fix=f"docs/operations.md, PartitionUnreadable: delete the records before offset {unreadable.end}",
        )

    def succeeded(self, place: Place) -> None:
        """Record that a fetch of a partition was read."""
        if self._ranges.pop(place, None) is not None and (trouble := self._troubles.pop(place, None)):
            trouble.resolved()

    def forget(self, places: Iterable[Place]) -> None:
        """Drop partitions that this worker no longer owns."""
        for place in list(places):
            self._ranges.pop(place, None)
            self._troubles.pop(place, None)

    def is_backing_off(self, place: Place) -> bool:
        """Return True if it is too early for another attempt."""
        entry = self._ranges.get(place)
        return entry is not None and self._clock() - entry[1] < RETRY_SECONDS

    def __contains__(self, place: object) -> bool:
        return place in self._ranges

    def snapshot(self) -> dict[Place, Unreadable]:
        """Return the unreadable ranges, by partition."""
        return {place: unreadable for place, (unreadable, _) in list(self._ranges.items())}
