"""Fetches that aiokafka's reader gives up: header names that are not UTF-8, and batches that cannot be read.

aiokafka reads records in C and gives up the whole fetch on a header name that is not UTF-8, every time again:
one record of a client in another language would stop its partition, and every worker that takes the partition
over. A fetch that fails so is read by aiokafka's own reader in Python instead, with names as in
`streams.messages.headers`.

A batch that cannot be read at all (damaged, or of an unknown codec) ends the fetch before it and is reported.
Raised as aiokafka does it, the error would end the worker, and lose what was read of other partitions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import structlog
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from streams.lanes.unreadable import Unreadable

log = structlog.get_logger(__name__)

BATCH_LENGTH = struct.Struct(">qi")
"""First offset of a batch and the bytes that follow."""

LAST_OFFSET = struct.Struct(">23xi")
"""Position of the number of offsets in a batch of format 2."""

Report = Callable[[tuple[str, int], Unreadable], None]
"""Called with the partition whose next batch cannot be read."""


class _Bytes(bytearray):
    """Bytes any stretch of which is text."""

    def __getitem__(self, place: Any) -> Any:
        content = super().__getitem__(place)
        return _Bytes(content) if isinstance(place, slice) else content

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return super().decode(encoding, errors)


class _Batch(_DefaultRecordBatchPy):
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _Bytes(self._buffer)


class _Records(_MemoryRecordsPy):
    def next_batch(self) -> Any:
        data = self._next_slice
        batch = super().next_batch()
        # older formats have no headers
        return batch if data is None or batch is None or batch.magic < 2 else _Batch(data)


class KeptRecords(MemoryRecords):
    """The records of a fetch, which keep the bytes that they are read from.

    Parameters
    ----------
    data : bytes
        As the broker sent them.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data
        self._truncated = bool(data) and not super().has_next()

    def has_next(self) -> bool:
        """Return whether `next_batch` has something to say."""
        return self._truncated or bool(super().has_next())

    def next_batch(self) -> Any:
        """Return the next batch.

        Raises
        ------
        CorruptRecordException
            The fetch has no whole batch: aiokafka would pass over one offset and end the consumer.
        """
        if self._truncated:
            raise CorruptRecordException(f"{len(self.data)} bytes without a whole batch")
        return super().next_batch()


class ReadableRecords(fetcher.PartitionRecords):
    """The records of a partition out of one fetch, whatever bytes their headers' names are made of."""

    _records: Any
    _aborted_transactions: list[Any]
    _aborted_producers: set[int]
    _records_iterator: Iterator[Any]

    def __init__(self, report: Report, tp: Any, records: KeptRecords, aborted: Any, *rest: Any) -> None:
        super().__init__(tp, records, aborted, *rest)
        self._report = report
        self._aborted = list(self._aborted_transactions)
        self._records_iterator = self._read()

    def __iter__(self) -> Iterator[Any]:
        # not itself: a call of `__next__` for each record costs a tenth of what reading it does
        return self._records_iterator

    def _read(self) -> Iterator[Any]:
        begin = self.next_fetch_offset
        try:
            yield from self._unpacked()
        except Exception as error:
            if self.next_fetch_offset == begin:
                offset = self.next_fetch_offset
                unreadable = Unreadable(offset, end_of_batch(self._records.data, offset), repr(error))
                self._report((self._tp.topic, self._tp.partition), unreadable)
            # else what was read before is delivered, and the next fetch begins with what cannot be read

    def _unpacked(self) -> Iterator[Any]:
        try:
            yield from self._unpack_records()
            return
        except UnicodeDecodeError:
            log.warning(
                "odd_header_name",
                topic=self._tp.topic,
                partition=self._tp.partition,
                offset=self.next_fetch_offset,
            )
        next_offset = self.next_fetch_offset
        # from the fetch's first record, because the position at which the reader in C stopped is unknown
        data, self._records = self._records.data, _Records(self._records.data)
        self._records.data = data
        self._aborted_transactions, self._aborted_producers = list(self._aborted), set()
        for record in self._unpack_records():
            if record.offset >= next_offset:
                yield record


def end_of_batch(data: bytes, offset: int) -> int:
    """Return the offset after the batch that an offset is in, by the headers of a fetch's batches.

    Parameters
    ----------
    data : bytes
        A fetch, as the broker sent it.
    offset : int

    Returns
    -------
    int
        `offset` + 1 where no header says.
    """
    place = 0
    while place + LAST_OFFSET.size <= len(data):
        base, length = BATCH_LENGTH.unpack_from(data, place)
        magic = data[place + 16]
        end = base + 1 + (LAST_OFFSET.unpack_from(data, place)[0] if magic >= 2 else 0)
        if end > offset:
            return int(end)
        if length <= 0:
            break
        place += BATCH_LENGTH.size + length
    return offset + 1


def read_odd_fetches(report: Report) -> None:
    """Make aiokafka's consumers in this process read such fetches.

    Parameters
    ----------
    report : callable
    """
    fetcher.MemoryRecords = KeptRecords
    fetcher.PartitionRecords = partial(ReadableRecords, report)
