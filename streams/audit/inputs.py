"""Input records of a lane in columns, reduced to the fields that its outputs are compared with."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator

from streams.audit.outputs import InputRecord

NOT_READ = 0xFFFFFFFF
"""Length of the id of a record that is not a query."""


class InputColumns:
    """Input records of a lane by offset, and the number of outputs of each.

    A topic may hold millions of records; columns need much less memory than one object for each record.

    Parameters
    ----------
    deferred : bool
        The input is the overflow topic, whose records name their source.
    """

    def __init__(self, deferred: bool) -> None:
        self._deferred = deferred
        self._offsets, self._lengths = array("q"), array("I")
        self._ids, self._ends, self._id_lengths = bytearray(), array("Q"), array("I")
        self._body, self._value_digests, self._frame = array("q"), array("q"), array("q")
        # columns of the overflow lane only
        self._plain, self._partition, self._offset = array("q"), array("i"), array("q")
        self._attempts = array("i")
        self._counts = bytearray()

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, offset: int, record: InputRecord) -> None:
        """Append a record; offsets must ascend."""
        if self._offsets and offset <= self._offsets[-1]:
            raise ValueError(f"offset {offset} came after {self._offsets[-1]}")
        self._offsets.append(offset)
        self._lengths.append(record.length)
        name = b"" if record.id is None else record.id.encode("utf-8", "surrogatepass")
        self._ids += name
        self._ends.append(len(self._ids))
        self._id_lengths.append(NOT_READ if record.id is None else len(name))
        self._body.append(record.body)
        self._value_digests.append(record.value_digest)
        self._frame.append(record.frame)
        if self._deferred:
            partition, source = record.source or (-1, -1)
            self._plain.append(record.plain)
            self._partition.append(partition)
            self._offset.append(source)
            self._attempts.append(record.attempt)
        self._counts.append(0)

    def count_output(self, offset: int) -> InputRecord | None:
        """Count an output of the record at an offset, and return the record, or None if there is none."""
        at = bisect.bisect_left(self._offsets, offset)
        if at == len(self._offsets) or self._offsets[at] != offset:
            return None
        self._counts[at] = min(255, self._counts[at] + 1)
        return self._at(at)

    def counted(self) -> Iterator[tuple[int, int]]:
        """Return offset and number of outputs of each record; the number is at most 255."""
        return zip(self._offsets, self._counts, strict=True)

    def digests(self) -> Iterator[tuple[int, int]]:
        """Return the digests of each record's value, and of its key and headers."""
        return zip(self._value_digests, self._frame, strict=True)

    def id_at(self, offset: int) -> str | None:
        """Return the query's id at the offset of a record."""
        return self._id(bisect.bisect_left(self._offsets, offset))

    def _id(self, at: int) -> str | None:
        length, end = self._id_lengths[at], self._ends[at]
        if length == NOT_READ:
            return None
        return self._ids[end - length : end].decode("utf-8", "surrogatepass")

    def _at(self, at: int) -> InputRecord:
        plain, source, attempt = self._frame[at], None, 1
        if self._deferred:
            plain, attempt = self._plain[at], self._attempts[at]
            if self._partition[at] >= 0:
                source = self._partition[at], self._offset[at]
        return InputRecord(
            self._id(at),
            self._body[at],
            self._lengths[at],
            self._value_digests[at],
            self._frame[at],
            plain,
            source,
            attempt,
        )
