"""A lane's input as columns: so much of each record as tells whether its outputs are true to it."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator

from streams.checks.landings import Arrival

NOT_READ = 0xFFFFFFFF
"""In place of an id's length, where a record is no query."""


class Arrivals:
    """The records of a lane's input by offset, and how often each was decided.

    There are as many as a topic holds: columns take far less than an object a record.

    Parameters
    ----------
    deferred : bool
        Of the overflow lane: records say where they came from.
    """

    def __init__(self, deferred: bool) -> None:
        self._deferred = deferred
        self._offsets, self._lengths = array("q"), array("I")
        self._ids, self._ends, self._id_lengths = bytearray(), array("Q"), array("I")
        self._body, self._whole, self._frame = array("q"), array("q"), array("q")
        # of the overflow lane alone
        self._plain, self._partition, self._offset = array("q"), array("i"), array("q")
        self._counts = bytearray()

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, offset: int, arrival: Arrival) -> None:
        """Take in a record; they come in the order of the log."""
        if self._offsets and offset <= self._offsets[-1]:
            raise ValueError(f"offset {offset} came after {self._offsets[-1]}")
        self._offsets.append(offset)
        self._lengths.append(arrival.length)
        name = b"" if arrival.id is None else arrival.id.encode("utf-8", "surrogatepass")
        self._ids += name
        self._ends.append(len(self._ids))
        self._id_lengths.append(NOT_READ if arrival.id is None else len(name))
        self._body.append(arrival.body)
        self._whole.append(arrival.whole)
        self._frame.append(arrival.frame)
        if self._deferred:
            partition, source = arrival.source or (-1, -1)
            self._plain.append(arrival.plain)
            self._partition.append(partition)
            self._offset.append(source)
        self._counts.append(0)

    def land(self, offset: int) -> Arrival | None:
        """Count an output of the record at an offset, and return it; None where there is none."""
        at = bisect.bisect_left(self._offsets, offset)
        if at == len(self._offsets) or self._offsets[at] != offset:
            return None
        self._counts[at] = min(255, self._counts[at] + 1)
        return self._at(at)

    def counted(self) -> Iterator[tuple[int, int]]:
        """Offset, and outputs of the record; more than 254 are 255."""
        return zip(self._offsets, self._counts, strict=True)

    def id_at(self, offset: int) -> str | None:
        """The query's id; for a record that is there."""
        return self._id(bisect.bisect_left(self._offsets, offset))

    def _id(self, at: int) -> str | None:
        length, end = self._id_lengths[at], self._ends[at]
        if length == NOT_READ:
            return None
        return self._ids[end - length : end].decode("utf-8", "surrogatepass")

    def _at(self, at: int) -> Arrival:
        plain, source = self._frame[at], None
        if self._deferred:
            plain = self._plain[at]
            if self._partition[at] >= 0:
                source = self._partition[at], self._offset[at]
        return Arrival(
            self._id(at), self._body[at], self._lengths[at], self._whole[at], self._frame[at], plain, source
        )
