"""Reservations: the amount that each routed query holds until its outcome arrives."""

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

from routing.arrays import (
    IntArray,
)
from routing.budgets.counters import CounterKey
from routing.feedback.plan_correction import UNKNOWN_CLUSTER
from streams.messages.ledger_schemas import RESERVATION_COLUMNS

OPEN = -1
"""Value of `paid` for a query without an outcome."""

BATCH_OVERHEAD_QUERIES = 20
"""Memory of an empty batch, counted in queries: 800 bytes of seven array headers and list entries."""

OPEN_FACTOR = 4
"""Multiple of the memory limit of settled reservations up to which open ones are kept."""


@dataclass
class ReservationBatch:
    """Reservations of one transaction of a lane, and the state before its decisions.

    Parameters
    ----------
    period, version, revision : int
        Of the plan.
    offsets : ndarray of int64, shape [n]
        Offsets of the served queries in the lane's input, ascending.
    model : ndarray of int64, shape [n]
    charge : ndarray of int64, shape [n]
        Picodollars reserved.
    quality : ndarray of float64, shape [n]
        Estimated for the chosen LLM.
    uncorrected : ndarray of float64, shape [n]
        The same before its correction by reported quality.
    cluster : ndarray of int64, shape [n]
        Task cluster of the query, -1 if it has none.
    ids : ndarray of uint64, shape [n]
        Digests of the query ids.
    attempts : ndarray of int64, shape [n]
        Number of the decision about each query; 1 unless a fleet returned it.
    returns : ndarray of int64, shape [r, 3]
        Reservations that the transaction settled because fleets returned their queries: offset, attempt and
        actual cost in picodollars.
    returned_next : int
        The lane's next returned query after the transaction.
    outcomes_next : int
        The lane's next outcome at that time: no earlier outcome can belong to these queries.
    available : ndarray of int64, shape [M] or [C]
        Amount that the lane could spend before the first query, of each LLM's budget or of each counter.
    created_at : float
        Seconds since the epoch.
    begin, end : int
        The transaction decided the lane's input from `begin` up to before `end`, unserved queries included;
        -1 for decisions about returned queries.
    counters : tuple of CounterKey, length C, optional
        Counters that the queries of the transaction drew on, or could have. None: one budget per LLM.
    columns : ndarray of int32, shape [n, B]
        Position in `counters` of the counter of each budget, negative for none. Empty without counters.
    tokens : ndarray of int64, shape [n]
        Tokens reserved; empty if no budget limits tokens.
    paid : ndarray of int64, shape [n]
        Actual cost of settled queries, `OPEN` for the others. Not part of the message.
    returned : ndarray of bool, shape [n]
        Queries that fleets returned. Not part of the message.
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
    attempts: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    returns: IntArray = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))
    returned_next: int = 0
    counters: tuple[CounterKey, ...] | None = None
    columns: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))
    tokens: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    paid: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    returned: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    uncorrected: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    cluster: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        count = len(self.offsets)
        if len(self.attempts) != count:
            self.attempts = np.ones(count, dtype=np.int64)
        if len(self.paid) != count:
            self.paid = np.full(count, OPEN, dtype=np.int64)
        if len(self.returned) != count:
            self.returned = np.zeros(count, dtype=np.bool_)
        if len(self.cluster) != count:
            self.uncorrected = self.quality
            self.cluster = np.full(count, UNKNOWN_CLUSTER, dtype=np.int64)

    @property
    def decides_input(self) -> bool:
        """True if the transaction decided records of the lane's input, rather than returned queries."""
        return not len(self.returns)

    @property
    def settled(self) -> bool:
        """True if no query of the batch is open."""
        return bool((self.paid != OPEN).all())


_KINDS: dict[str, Any] = {"i": np.int64, "u": np.uint64, "f": np.float64}
"""Type in memory of a column, by the kind of its type in the message."""

_PLAIN = ("period", "version", "revision", "outcomes_next", "created_at", "begin", "end", "returned_next")


def encode_reservations(batch: ReservationBatch) -> bytes:
    """Encode reservations as a message's value; columns are base64 of little-endian numbers."""
    body: dict[str, Any] = {name: getattr(batch, name) for name in _PLAIN}
    body["available"] = batch.available.tolist()
    if len(batch.returns):
        body["returns"] = batch.returns.tolist()
    for name, dtype in RESERVATION_COLUMNS.items():
        column = np.ascontiguousarray(getattr(batch, name), dtype)
        body[name] = _pack(column)
    if batch.counters is not None:
        body["counters"] = batch.counters
        body["budgets"] = batch.columns.shape[1]
        body["columns"] = _pack(np.ascontiguousarray(batch.columns, "<i4"))
    if len(batch.tokens):
        body["tokens"] = _pack(np.ascontiguousarray(batch.tokens, "<i8"))
    return orjson.dumps(body)


def decode_reservations(value: bytes) -> ReservationBatch:
    """Decode a value of `encode_reservations`."""
    body = orjson.loads(value)
    columns: dict[str, Any] = {
        name: np.frombuffer(binascii.a2b_base64(body[name]), dtype).astype(_KINDS[dtype[1]])
        for name, dtype in RESERVATION_COLUMNS.items()
    }
    available = np.array(body["available"], dtype=np.int64)
    returns = np.array(body.get("returns", []), dtype=np.int64).reshape(-1, 3)
    plain = {name: body[name] for name in _PLAIN if name in body}
    if "counters" in body:
        plain["counters"] = tuple((name, value) for name, value in body["counters"])
        draws = np.frombuffer(binascii.a2b_base64(body["columns"]), "<i4")
        plain["columns"] = draws.reshape(len(columns["offsets"]), body["budgets"]).astype(np.int32)
    if "tokens" in body:
        plain["tokens"] = np.frombuffer(binascii.a2b_base64(body["tokens"]), "<i8").astype(np.int64)
    return ReservationBatch(**columns, available=available, returns=returns, **plain)


def _pack(column: NDArray[Any]) -> str:
    return binascii.b2a_base64(column.tobytes(), newline=False).decode()


def id_digest(text: str) -> int:
    """Return a 64-bit digest of a query id, to detect the outcome of another query."""
    return int.from_bytes(_digest(text), "little")


def id_digests(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Return the digests of query ids."""
    return np.frombuffer(b"".join(map(_digest, ids)), "<u8")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


class OpenReservations:
    """The reservations of a lane that an outcome may still settle, oldest first, in bounded memory.

    Parameters
    ----------
    max_queries : int
        Memory limit in queries, with a fixed overhead per batch. Beyond it the oldest settled batches are
        dropped. Beyond four times as many the oldest open ones expire early.
    start : int
        First offset of the topic of reservations at which batches may be appended.
    """

    def __init__(self, max_queries: int, start: int = 0) -> None:
        self._max_queries, self._next_offset = max_queries, start
        self._batches: list[tuple[int, ReservationBatch]] = []
        self._inputs: list[ReservationBatch] = []
        """Batches of the lane's input, whose offsets ascend, and their first offsets."""
        self._firsts: list[int] = []
        self._inputs_begin = 0
        self._again: dict[tuple[int, int], tuple[ReservationBatch, int]] = {}
        """Reservations of returned queries by offset and attempt: batch and row."""
        self._begin = 0
        """Index of the oldest kept batch. Expired batches are deleted once they are half of the lists."""
        self.size = 0
        self._oldest_open: dict[int, tuple[int, int]] = {}
        """Batch and row of the oldest reservation that may be open, by LLM; they only grow."""

    def __len__(self) -> int:
        return len(self._batches) - self._begin

    def append(self, stored_at: int, batch: ReservationBatch) -> None:
        """Append the reservations of a transaction, stored at offset `stored_at` of their topic."""
        self._next_offset = stored_at + 1
        for offset, attempt, paid in batch.returns.tolist():
            if (match := self.find(offset, attempt)) is not None:
                match[0].paid[match[1]], match[0].returned[match[1]] = paid, True
        if not len(batch.offsets):
            return
        self._batches.append((stored_at, batch))
        self.size += _weight(batch)
        if batch.decides_input:
            self._inputs.append(batch)
            self._firsts.append(int(batch.offsets[0]))
        else:
            keys = zip(batch.offsets.tolist(), batch.attempts.tolist(), strict=True)
            self._again |= {key: (batch, row) for row, key in enumerate(keys)}

    def find(self, offset: int, attempt: int = 1) -> tuple[ReservationBatch, int] | None:
        """Return the reservation of an attempt of the query at this offset, as batch and row, or None."""
        if attempt > 1 and (match := self._again.get((offset, attempt))) is not None:
            return match
        at = bisect.bisect_right(self._firsts, offset, lo=self._inputs_begin) - 1
        if at < self._inputs_begin:
            return None
        batch = self._inputs[at]
        row = int(np.searchsorted(batch.offsets, offset))
        # a query that was deferred after its return is on the overflow lane's input at a later attempt
        if row < len(batch.offsets) and (batch.offsets[row], batch.attempts[row]) == (
            offset,
            attempt,
        ):
            return batch, row
        return None

    @property
    def first_offset(self) -> int | None:
        """Offset of the oldest kept query of the lane's input."""
        return self._firsts[self._inputs_begin] if self._inputs_begin < len(self._firsts) else None

    @property
    def first_period(self) -> int | None:
        """Period of the oldest kept query."""
        return self._batches[self._begin][1].period if len(self) else None

    @property
    def any_open(self) -> bool:
        """True if some query has no outcome."""
        return any(not batch.settled for _, batch in self._batches[self._begin :])

    def oldest(self) -> int:
        """Return the offset of the oldest kept batch, or the earliest offset of the next one."""
        return self._batches[self._begin][0] if len(self) else self._next_offset

    def oldest_open(self, models: int) -> dict[int, float]:
        """Return the creation time of the oldest open reservation by LLM, in seconds since the epoch.

        Parameters
        ----------
        models : int
            Number of LLMs. Those without an open reservation are missing from the result.
        """
        oldest = {}
        for model in range(models):
            index, row = self._oldest_open.get(model, (0, 0))
            if index < self._begin:
                index, row = self._begin, 0
            while index < len(self._batches):
                batch = self._batches[index][1]
                if batch.model[row] != model or batch.paid[row] != OPEN:
                    rows = (batch.model[row:] == model) & (batch.paid[row:] == OPEN)
                    if not rows.any():
                        index, row = index + 1, 0
                        continue
                    row += int(rows.argmax())
                oldest[model] = batch.created_at
                break
            self._oldest_open[model] = (index, row)
        return oldest

    def has_old(self, before: float) -> bool:
        """Return True if the oldest batch was created before this time."""
        return len(self) > 0 and self._batches[self._begin][1].created_at < before

    def expire(self, before: float) -> list[ReservationBatch]:
        """Expire and return the oldest batches: those created before this time or beyond the memory limit.

        Settled batches stay within the memory limit, so that duplicate outcomes are recognised.
        """
        expired = []
        while len(self):
            batch = self._batches[self._begin][1]
            limit = self._max_queries if batch.settled else OPEN_FACTOR * self._max_queries
            if batch.created_at >= before and self.size <= limit:
                break
            self.size -= _weight(batch)
            self._begin += 1
            self._forget(batch)
            expired.append(batch)
        if expired and 2 * self._begin >= len(self._batches):
            del self._batches[: self._begin]
            del self._inputs[: self._inputs_begin], self._firsts[: self._inputs_begin]
            self._inputs_begin = 0
            self._oldest_open = {m: (at - self._begin, row) for m, (at, row) in self._oldest_open.items()}
            self._begin = 0
        return expired

    def _forget(self, batch: ReservationBatch) -> None:
        if batch.decides_input:
            self._inputs_begin += 1
            return
        for key in zip(batch.offsets.tolist(), batch.attempts.tolist(), strict=True):
            self._again.pop(key, None)


def _weight(batch: ReservationBatch) -> int:
    """Return the memory of a batch, in queries."""
    return len(batch.offsets) + BATCH_OVERHEAD_QUERIES
