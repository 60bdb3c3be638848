"""Reservations: what each routed query took of its LLM's budget until its outcome comes."""

from __future__ import annotations

import binascii
import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from routing.decision import IntArray

OPEN = -1

BATCH_WEIGHT = 20
"""Queries that a batch counts for beside its own: 800 bytes of seven arrays and their places."""

OPEN_FACTOR = 4
"""Open reservations are kept beyond the room that settled ones have, by so much."""


@dataclass
class Reserved:
    """Reservations of one transaction of a lane, and the state in which they were decided.

    Parameters
    ----------
    period, version, revision : int
        The plan's.
    offsets : ndarray of int64, shape [n]
        Of the served queries in the lane's input, ascending.
    model : ndarray of int64, shape [n]
    charge : ndarray of int64, shape [n]
        Picodollars reserved.
    quality : ndarray of float64, shape [n]
        Estimated for the chosen LLM.
    ids : ndarray of uint64, shape [n]
        Digests of the queries' ids.
    outcomes_next : int
        The lane's position in its outcomes before this: no earlier outcome can be of these queries.
    available : ndarray of int64, shape [M]
        Picodollars that the lane could spend before the first of them.
    created_at : float
        Seconds since the epoch.
    begin, end : int
        The transaction decided the lane's input from offset `begin` up to before `end`, those included that
        were not served; -1 where that is not known.
    paid : ndarray of int64, shape [n]
        What settled ones really cost, `OPEN` for the others; not part of the message.
    """

    period: int
    version: int
    revision: int
    offsets: IntArray
    model: IntArray
    charge: IntArray
    quality: NDArray[np.float64]
    ids: NDArray[np.uint64]
    outcomes_next: int
    available: IntArray
    created_at: float
    begin: int = -1
    end: int = -1
    paid: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.paid) != len(self.offsets):
            self.paid = np.full(len(self.offsets), OPEN, dtype=np.int64)

    @property
    def settled(self) -> bool:
        """No query of it is open."""
        return bool((self.paid != OPEN).all())


_COLUMNS: tuple[tuple[str, str, Any], ...] = (
    ("offsets", "<i8", np.int64),
    ("model", "<i2", np.int64),
    ("charge", "<i8", np.int64),
    ("quality", "<f4", np.float64),
    ("ids", "<u8", np.uint64),
)
_PLAIN = ("period", "version", "revision", "outcomes_next", "created_at", "begin", "end")


def encode_reserved(reserved: Reserved) -> bytes:
    """Reservations as a message's value: columns are base64 of little-endian integers."""
    body: dict[str, Any] = {name: getattr(reserved, name) for name in _PLAIN}
    body["available"] = reserved.available.tolist()
    for name, dtype, _ in _COLUMNS:
        column = np.ascontiguousarray(getattr(reserved, name), dtype)
        body[name] = binascii.b2a_base64(column.tobytes(), newline=False).decode()
    return orjson.dumps(body)


def decode_reserved(value: bytes) -> Reserved:
    """What `encode_reserved` wrote."""
    body = orjson.loads(value)
    columns: dict[str, Any] = {
        name: np.frombuffer(binascii.a2b_base64(body[name]), dtype).astype(kind)
        for name, dtype, kind in _COLUMNS
    }
    available = np.array(body["available"], dtype=np.int64)
    return Reserved(**columns, available=available, **{name: body[name] for name in _PLAIN if name in body})


def id_digest(text: str) -> int:
    """64 bits of a query's id, to tell an outcome of another query."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def id_digests(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Digests of many ids."""
    return np.fromiter(map(id_digest, ids), dtype=np.uint64, count=len(ids))


class OpenReservations:
    """The reservations of a lane that an outcome may still come for, oldest first; memory is bounded.

    Parameters
    ----------
    most : int
        Queries kept, with what batches take by themselves counted as queries; beyond, the oldest settled ones
        are forgotten, and beyond four times as many the oldest open ones are given up as if their time had
        passed.
    start : int
        Offset in the topic of reservations from which on batches may come.
    """

    def __init__(self, most: int, start: int = 0) -> None:
        self._most, self._after = most, start
        self._batches: list[tuple[int, Reserved]] = []
        self._firsts: list[int] = []
        self._begin = 0
        """What lies before is given up, and deleted when it is half of the lists: in steps, not each time."""
        self.size = 0

    def __len__(self) -> int:
        return len(self._batches) - self._begin

    def add(self, where: int, reserved: Reserved) -> None:
        """Add the reservations of a transaction, which are at offset `where` of their topic."""
        self._after = where + 1
        if len(reserved.offsets):
            self._batches.append((where, reserved))
            self._firsts.append(int(reserved.offsets[0]))
            self.size += _weight(reserved)

    def find(self, offset: int) -> tuple[Reserved, int] | None:
        """The reservation of the query at this offset, as batch and row."""
        at = bisect.bisect_right(self._firsts, offset, lo=self._begin) - 1
        if at < self._begin:
            return None
        reserved = self._batches[at][1]
        row = int(np.searchsorted(reserved.offsets, offset))
        if row < len(reserved.offsets) and reserved.offsets[row] == offset:
            return reserved, row
        return None

    @property
    def first_offset(self) -> int | None:
        """Offset of the oldest query that is kept."""
        return self._firsts[self._begin] if len(self) else None

    @property
    def first_period(self) -> int | None:
        """Period of the oldest query that is kept."""
        return self._batches[self._begin][1].period if len(self) else None

    def oldest(self) -> int:
        """Where the oldest batch is in its topic; without any, where the next one will not be before."""
        return self._batches[self._begin][0] if len(self) else self._after

    def has_old(self, before: float) -> bool:
        """The oldest batch was made before this time."""
        return len(self) > 0 and self._batches[self._begin][1].created_at < before

    def expire(self, before: float) -> list[Reserved]:
        """Give up the oldest batches: made before this time, or too many; returns them.

        Settled ones are kept while there is room, so that a repeated outcome is known for what it is.
        """
        expired = []
        while len(self):
            reserved = self._batches[self._begin][1]
            room = self._most if reserved.settled else OPEN_FACTOR * self._most
            if reserved.created_at >= before and self.size <= room:
                break
            self.size -= _weight(reserved)
            self._begin += 1
            expired.append(reserved)
        if expired and 2 * self._begin >= len(self._batches):
            del self._batches[: self._begin], self._firsts[: self._begin]
            self._begin = 0
        return expired


def _weight(reserved: Reserved) -> int:
    """Memory that a batch takes, in queries: its arrays have heads that weigh as much as some queries."""
    return len(reserved.offsets) + BATCH_WEIGHT
