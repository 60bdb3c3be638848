"""The queue of a lane: runs of fetched records, popped as batches without gaps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streams.messages.record import Record

MAX_BATCH_BYTES = 4 * 2**20
"""A batch gets no further record once its records have this many bytes.

With what the router adds to them, they fit one request for a partition
(`streams.kafka.clients.BATCH_BYTES`).
"""


@dataclass(frozen=True)
class RecordRun:
    """Consecutive records of one fetch.

    Parameters
    ----------
    generation : int
        Generation of the consumer group in which they were fetched.
    begin : int
        Offset at which their fetch began. Offsets from here to the first record are transaction markers.
    records : list of Record
    """

    generation: int
    begin: int
    records: list[Record]

    @property
    def end(self) -> int:
        """Offset at which the next run begins."""
        return self.records[-1].offset + 1


class Backlog:
    """Runs in the order in which they were fetched. The length is the number of their records.

    Runs are stored whole, because handling records one by one would cost too much time.
    """

    def __init__(self) -> None:
        self._runs: deque[tuple[RecordRun, int]] = deque()
        self._count = 0
        self.bytes = 0
        """Size of the queued values."""

    def __len__(self) -> int:
        return self._count

    def append(self, run: RecordRun) -> None:
        """Append a run."""
        if run.records:
            self._put(run, _bytes(run.records))

    def clear(self) -> None:
        """Drop everything."""
        self._runs.clear()
        self._count = self.bytes = 0

    def pop(self, max_records: int) -> RecordRun:
        """Return at most `max_records` consecutive records from the front, and at least one.

        Raises
        ------
        IndexError
            The backlog is empty.
        """
        first, size = self._pop(max_records, MAX_BATCH_BYTES)
        batch = RecordRun(first.generation, first.begin, list(first.records))
        while self._runs and len(batch.records) < max_records and size < MAX_BATCH_BYTES:
            after = self._runs[0][0]
            if (after.generation, after.begin) != (batch.generation, batch.end):
                break
            more, bytes_more = self._pop(max_records - len(batch.records), MAX_BATCH_BYTES - size)
            batch.records.extend(more.records)
            size += bytes_more
        return batch

    def _pop(self, max_records: int, max_bytes: int) -> tuple[RecordRun, int]:
        """Return the first run, or the part of it that fits, and its bytes."""
        run, size = self._runs.popleft()
        records = run.records
        self._count -= len(records)
        self.bytes -= size
        if len(records) <= max_records and size <= max_bytes:
            return run, size
        number = min(max_records, len(records))
        # if the whole run fits, estimate the part's bytes by its share: counting costs as much as decoding
        head_bytes = size * number // len(records)
        if size > max_bytes:
            number, head_bytes = _fitting(records, number, max_bytes)
        head, rest = RecordRun(run.generation, run.begin, records[:number]), records[number:]
        if rest:
            self._put(RecordRun(run.generation, head.end, rest), size - head_bytes, front=True)
        return head, head_bytes

    def _put(self, run: RecordRun, size: int, *, front: bool = False) -> None:
        (self._runs.appendleft if front else self._runs.append)((run, size))
        self._count += len(run.records)
        self.bytes += size


def _bytes(records: list[Record]) -> int:
    return sum([len(record.value or b"") for record in records])


def _fitting(records: list[Record], max_records: int, max_bytes: int) -> tuple[int, int]:
    """Return the number of first records that fit, at least one, and their bytes."""
    number = size = 0
    while number < max_records and (not number or size < max_bytes):
        size += len(records[number].value or b"")
        number += 1
    return number, size
