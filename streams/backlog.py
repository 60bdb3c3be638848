"""What waits in a lane: records of one fetch after the other, taken without a hole between them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

BATCH_BYTES = 16 * 2**20
"""A transaction takes no further record once its records have so many bytes."""


class Record(Protocol):
    """A record as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


@dataclass(frozen=True)
class Stretch:
    """Records without a hole between them, and what they came from.

    Parameters
    ----------
    generation : int
        The consumer group's when they were fetched.
    begin : int
        Offset at which their fetch began: those before the first record are no records (markers of
        transactions).
    records : list of Record
    """

    generation: int
    begin: int
    records: list[Record]

    @property
    def end(self) -> int:
        """Offset at which what comes next begins."""
        return self.records[-1].offset + 1


class Backlog:
    """Stretches in the order in which they were fetched; its length is that of their records.

    Kept whole, not record by record: the lane's time is the decision's.
    """

    def __init__(self) -> None:
        self._stretches: deque[tuple[Stretch, int]] = deque()
        self._count = 0
        self.bytes = 0
        """Of the values that wait."""

    def __len__(self) -> int:
        return self._count

    def add(self, stretch: Stretch) -> None:
        """Put records at the end."""
        if stretch.records:
            self._put(stretch, _bytes(stretch.records))

    def clear(self) -> None:
        """Forget everything."""
        self._stretches.clear()
        self._count = self.bytes = 0

    def take(self, most: int) -> Stretch:
        """At most so many records from the front, without a hole between them; at least one.

        Raises
        ------
        IndexError
            Nothing waits.
        """
        first, size = self._pop(most, BATCH_BYTES)
        taken = Stretch(first.generation, first.begin, list(first.records))
        while self._stretches and len(taken.records) < most and size < BATCH_BYTES:
            after = self._stretches[0][0]
            if (after.generation, after.begin) != (taken.generation, taken.end):
                break
            more, bytes_more = self._pop(most - len(taken.records), BATCH_BYTES - size)
            taken.records.extend(more.records)
            size += bytes_more
        return taken

    def _pop(self, most: int, most_bytes: int) -> tuple[Stretch, int]:
        """The first stretch or what fits of it, and its bytes."""
        stretch, size = self._stretches.popleft()
        records = stretch.records
        self._count -= len(records)
        self.bytes -= size
        if len(records) <= most and size <= most_bytes:
            return stretch, size
        number = min(most, len(records))
        # where all of it would fit, what a part has is its share: counting costs as much as decoding
        taken = size * number // len(records)
        if size > most_bytes:
            number, taken = _fitting(records, number, most_bytes)
        head, rest = Stretch(stretch.generation, stretch.begin, records[:number]), records[number:]
        if rest:
            self._put(Stretch(stretch.generation, head.end, rest), size - taken, front=True)
        return head, taken

    def _put(self, stretch: Stretch, size: int, *, front: bool = False) -> None:
        (self._stretches.appendleft if front else self._stretches.append)((stretch, size))
        self._count += len(stretch.records)
        self.bytes += size


def _bytes(records: list[Record]) -> int:
    return sum([len(record.value or b"") for record in records])


def _fitting(records: list[Record], most: int, most_bytes: int) -> tuple[int, int]:
    """How many of the first records are taken, and their bytes: one at least, none once `most_bytes` are."""
    number = size = 0
    while number < most and (not number or size < most_bytes):
        size += len(records[number].value or b"")
        number += 1
    return number, size
