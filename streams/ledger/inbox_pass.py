"""One pass over a lane's waiting outcomes or returned queries: settling, duplicate and rejected ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from confluent_kafka import Message

from routing.policy.account import Account
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch
from streams.ledger.settled_draws import SettledQuery, settle_queries
from streams.messages.rejection import RejectedMessage

T = TypeVar("T")
Match = tuple[ReservationBatch, int]
"""A reservation: its batch and row."""


class InboxPass:
    """Counts and collects the results of a batch of messages.

    Parameters
    ----------
    counts : mapping of str to int
        Messages by result, so far.
    position : int
        Offset of the first message that counts.
    accepted : str
        Result of messages that settle a reservation.
    """

    def __init__(self, counts: Mapping[str, int], position: int, accepted: str) -> None:
        self._counts, self._accepted = Counter(counts), accepted
        self.position = position
        """Offset after the last message."""
        self.refused: list[tuple[Message, RejectedMessage]] = []
        self._settled: list[SettledQuery] = []
        self._failed: defaultdict[int, list[int]] = defaultdict(list)

    @property
    def counts(self) -> dict[str, int]:
        """Messages by result."""
        return dict(self._counts)

    def settling_messages(
        self, messages: Sequence[Message], match: Callable[[Message], tuple[T, Match | None]]
    ) -> Iterator[tuple[Message, T, ReservationBatch, int]]:
        """Yield the messages that settle a reservation: message, content, batch and row.

        Parameters
        ----------
        messages : sequence of Message
            In order of their offsets.
        match : callable
            Decodes a message; returns its content and its reservation, or None for a duplicate. It raises
            `RejectedMessage` for messages that settle none.
        """
        first = self.position
        for message in messages:
            at = message.offset() or 0
            if at < first:
                continue
            self.position = max(self.position, at + 1)
            try:
                content, reservation = match(message)
            except RejectedMessage as error:
                self._counts[error.field if error.stage == "settle" else "refused"] += 1
                self.refused.append((message, error))
                continue
            if reservation is None:
                self._counts["duplicate"] += 1
                continue
            self._counts[self._accepted] += 1
            yield message, content, *reservation

    def settle(self, batch: ReservationBatch, row: int, tokens: int | None, failed: bool) -> None:
        """Settle a reservation by its `paid`; `failed`: its LLM gave no answer."""
        self._settled.append(SettledQuery(batch, row, tokens))
        if failed:
            self._failed[batch.period].append(int(batch.model[row]))

    def apply(self, record: LedgerRecord) -> LedgerRecord:
        """Return the record after the settled reservations, each in its own period."""
        record = settle_queries(record, self._settled)
        for period, models in self._failed.items():
            fail = partial(Account.fail, model=np.array(models, dtype=np.int64))
            record = record.with_change(period, fail)
        return record
