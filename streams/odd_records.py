"""Fetches in which a header's name is not UTF-8: read a second time, with names as in `streams.headers`.

aiokafka reads records in C and gives up the whole fetch on such a name, every time again: one record of a
client in another language would stop its partition, and every worker that takes the partition over. A fetch
that fails so is read by aiokafka's own reader in Python instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

log = structlog.get_logger(__name__)


class _Bytes(bytearray):
    """Bytes any stretch of which is text."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Bytes(found) if isinstance(place, slice) else found

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


class ReadableRecords(fetcher.PartitionRecords):
    """The records of a partition out of one fetch, whatever bytes their headers' names are made of."""

    _records: Any
    _aborted_transactions: list[Any]
    _aborted_producers: set[int]
    _records_iterator: Iterator[Any]

    def __init__(self, tp: Any, records: KeptRecords, aborted: Any, *rest: Any) -> None:
        super().__init__(tp, records, aborted, *rest)
        self._aborted = list(self._aborted_transactions)
        self._records_iterator = self._read()

    def __iter__(self) -> Iterator[Any]:
        # not itself: a call of `__next__` for each record costs a tenth of what reading it does
        return self._records_iterator

    def _read(self) -> Iterator[Any]:
        try:
            yield from self._unpack_records()
            return
        except UnicodeDecodeError:
            log.warning(
                "odd_header_name", topic=self._tp.topic, partition=self._tp.partition,
                offset=self.next_fetch_offset,
            )  # fmt: skip
        given = self.next_fetch_offset
        # from the fetch's first record, for nobody knows where in it the reader in C stopped
        self._records = _Records(self._records.data)
        self._aborted_transactions, self._aborted_producers = list(self._aborted), set()
        for record in self._unpack_records():
            if record.offset >= given:
                yield record


def read_all_names() -> None:
    """Make aiokafka's consumers in this process read such fetches."""
    fetcher.MemoryRecords = KeptRecords
    fetcher.PartitionRecords = ReadableRecords
