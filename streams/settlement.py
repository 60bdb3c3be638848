"""Settlement: outcomes replace reservations by what was really spent, once each."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog
from confluent_kafka import Message

from routing.account import Account
from routing.money import to_pico
from streams.ledger import LedgerRecord
from streams.messages import Outcome, Refused, decode_outcome
from streams.reservations import OPEN, OpenReservations, Reserved, id_digest

log = structlog.get_logger(__name__)

ROOM = 1_000_000
"""Reservations that a lane keeps in memory, 42 bytes each."""


@dataclass(frozen=True)
class Settled:
    """What a batch of outcomes did.

    Parameters
    ----------
    record : LedgerRecord
        The lane's record with the outcomes taken in.
    refused : list of (Message, Refused)
        For the dead-letter topic of outcomes.
    """

    record: LedgerRecord
    refused: list[tuple[Message, Refused]]


class Settlement:
    """The open reservations of one lane, and the outcomes that came for them.

    Parameters
    ----------
    lane : int
    settle_seconds : float
        Reservations older than this stay charged for good.
    """

    def __init__(self, lane: int, settle_seconds: float) -> None:
        self.lane, self._seconds = lane, settle_seconds
        self.reservations = OpenReservations(ROOM)
        self.inbox: deque[Message] = deque()
        self._given_up = 0
        """The first period of which reservations may be open."""

    def rebuild(
        self, record: LedgerRecord, batches: Sequence[tuple[int, Reserved]], outcomes: Sequence[Message]
    ) -> None:
        """Restore from the logs what was known at the last commit.

        Parameters
        ----------
        record : LedgerRecord
            The last committed.
        batches : sequence of (offset, Reserved)
            From the ledger's `reservations_from` on.
        outcomes : sequence of Message
            From the oldest batch's `outcomes_next` up to the ledger's: those that were taken in since.
        """
        self.reservations = OpenReservations(ROOM, record.reservations_from)
        self.inbox = deque()
        self._given_up = 0
        for where, reserved in batches:
            self.reservations.add(where, reserved)
        for message in outcomes:
            try:
                # refused then is refused now: what contradicted a reservation has not settled it
                self._match(decode_outcome(message.value()), message.offset() or 0, 2**62, record)
            except Refused:
                continue

    def expire(self, record: LedgerRecord, now: float) -> LedgerRecord:
        """Give up reservations whose time has passed; they stay charged, each to its own period."""
        for reserved in self.reservations.expire(now - self._seconds):
            lapsed = reserved.model[reserved.paid == OPEN]
            if len(lapsed):
                log.warning(
                    "reservations_lapsed", lane=self.lane, queries=len(lapsed), period=reserved.period
                )
                record = _in_period(record, reserved.period, partial(Account.lapse, model=lapsed))
        return self._give_up(record)

    def _give_up(self, record: LedgerRecord) -> LedgerRecord:
        """Nothing of a period is open once its reservations are gone, also when their topic was lost."""
        first = self.reservations.first_period or record.account.period
        if first > self._given_up:
            for period, account in record.past.items():
                left = np.maximum(account.served - account.settlements - account.lapsed, 0)
                if self._given_up <= period < first and left.any():
                    log.warning("reservations_lost", lane=self.lane, queries=int(left.sum()), period=period)
                    record = record.with_account(account.lapse(np.repeat(np.arange(len(left)), left)))
            self._given_up = first
        return record

    def has_old(self, now: float) -> bool:
        """Some reservations have to be given up."""
        return self.reservations.has_old(now - self._seconds)

    def settle(self, record: LedgerRecord, messages: Sequence[Message]) -> Settled:
        """Take in outcomes.

        Parameters
        ----------
        record : LedgerRecord
        messages : sequence of Message
            In order of their offsets; any before `record.outcomes_next` were taken in already.
        """
        kinds: Counter[str] = Counter(record.outcomes)
        reported = {name: list(values) for name, values in record.reported.items()}
        refused: list[tuple[Message, Refused]] = []
        paid: dict[int, list[tuple[int, int, int]]] = {}
        for message in messages:
            at = message.offset() or 0
            if at < record.outcomes_next:
                continue
            try:
                outcome = decode_outcome(message.value())
                found = self._match(outcome, at, record.next, record)
            except Refused as error:
                kinds[error.field if error.stage == "settle" else "refused"] += 1
                refused.append((message, error))
                continue
            if found is None:
                kinds["duplicate"] += 1
                continue
            reserved, row = found
            kinds["settled"] += 1
            model = int(reserved.model[row])
            paid.setdefault(reserved.period, []).append(
                (model, int(reserved.charge[row]), int(reserved.paid[row]))
            )
            if outcome.quality is not None:
                sums = reported.setdefault(outcome.model, [0, 0.0, 0.0, 0.0])
                sums[0] += 1
                sums[1] += outcome.quality
                sums[2] += float(reserved.quality[row])
                sums[3] += outcome.cost
        for period, rows in paid.items():
            models, charges, actual = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
            change = partial(Account.settle, model=models, reserved=charges, actual=actual)
            record = _in_period(record, period, change)
        last = (messages[-1].offset() or 0) if messages else -1
        position = max(record.outcomes_next, last + 1)
        return Settled(
            replace(record, outcomes=dict(kinds), reported=reported, outcomes_next=position), refused
        )

    def _match(
        self, outcome: Outcome, at: int, decided: int, record: LedgerRecord
    ) -> tuple[Reserved, int] | None:
        """The reservation that this outcome settles, marked as paid; None when it was so before."""
        if outcome.partition != self.lane:
            raise Refused(
                "settle", "unknown", f"partition {outcome.partition} is not this one's, {self.lane}"
            )
        found = self.reservations.find(outcome.offset)
        if found is None:
            first = self.reservations.first_offset
            if outcome.offset < (decided if first is None else first):
                raise _late(outcome)
            raise Refused("settle", "unknown", f"no query at offset {outcome.offset} was routed to an LLM")
        reserved, row = found
        if at < reserved.outcomes_next:
            # known only after a restart: it was taken in before the query was routed, and refused then
            raise Refused("settle", "unknown", f"the query at offset {outcome.offset} was routed only later")
        if int(reserved.ids[row]) != id_digest(outcome.id):
            raise Refused("settle", "contradictory", f"the query at offset {outcome.offset} has another id")
        model = int(reserved.model[row])
        if record.models[model] != outcome.model:
            raise Refused("settle", "contradictory", f"the query was routed to {record.models[model]}")
        if record.account_of(reserved.period) is None:
            # forgotten by a version that kept one past account: whether it settled this nothing tells
            raise _late(outcome)
        actual = int(to_pico(outcome.cost))
        if reserved.paid[row] == OPEN:
            reserved.paid[row] = actual
            return found
        if reserved.paid[row] == actual:
            return None
        raise Refused("settle", "contradictory", "the query was settled before, at another cost")


def _late(outcome: Outcome) -> Refused:
    return Refused(
        "settle", "late", f"the reservation of offset {outcome.offset} has lapsed; it stays charged"
    )


def _in_period(record: LedgerRecord, period: int, change: Callable[[Account], Account]) -> LedgerRecord:
    """Apply a change to the account of a period: budgets are a period's own, so no other one feels it."""
    account = record.account_of(period)
    return record if account is None else record.with_account(change(account))
