"""Settlement: replace each reservation by the actual cost, once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog
from confluent_kafka import Message

from routing.budgets.money import to_pico
from routing.policy.account import Account
from streams.ledger.inbox_pass import InboxPass, Match
from streams.ledger.quality_residuals import QualityResiduals
from streams.ledger.record import DELETED_GUIDE, LedgerRecord
from streams.ledger.reported_quality import ReportedQuality
from streams.ledger.reservations import OPEN, OpenReservations, ReservationBatch, id_digest
from streams.messages.outcome import (
    FAILED,
    Outcome,
    decode_outcome,
)
from streams.messages.rejection import RejectedMessage, RejectionReason

log = structlog.get_logger(__name__)

MAX_OPEN_RESERVATIONS = 1_000_000
"""Reservations that a lane keeps in memory, 42 bytes each."""


class Inbox(deque[Message]):
    """Queue of a lane's waiting outcomes, filled by the outcome reader's thread."""

    log_start: int | None = None
    """First offset of the log, if outcomes before it were deleted before they were read."""

    def pop_batch(self, max_messages: int) -> list[Message]:
        """Remove and return at most `max_messages` messages from the front."""
        return [self.popleft() for _ in range(min(len(self), max_messages))]


@dataclass(frozen=True)
class SettlementResult:
    """Result of settling a batch of outcomes.

    Parameters
    ----------
    record : LedgerRecord
        The lane's record after the outcomes.
    refused : list of (Message, RejectedMessage)
        For the dead-letter topic of outcomes.
    """

    record: LedgerRecord
    refused: list[tuple[Message, RejectedMessage]]


class Settlement:
    """The open reservations of one lane, its waiting outcomes and its waiting returned queries.

    Parameters
    ----------
    lane : int
    settle_seconds : float
        Reservations expire at this age and stay charged.
    """

    def __init__(self, lane: int, settle_seconds: float) -> None:
        self.lane, self._seconds = lane, settle_seconds
        self.reservations = OpenReservations(MAX_OPEN_RESERVATIONS)
        self.inbox, self.returned = Inbox(), Inbox()
        self._first_open_period = 0
        """First period that may have open reservations."""

    def rebuild(
        self,
        record: LedgerRecord,
        batches: Sequence[tuple[int, ReservationBatch]],
        outcomes: Sequence[Message],
    ) -> None:
        """Restore the state of the last commit from the logs.

        Parameters
        ----------
        record : LedgerRecord
            The last committed.
        batches : sequence of (offset, ReservationBatch)
            From the ledger's `reservations_from` on.
        outcomes : sequence of Message
            From the oldest batch's `outcomes_next` to the ledger's: those settled since.
        """
        self.reservations = OpenReservations(MAX_OPEN_RESERVATIONS, record.reservations_from)
        self.inbox, self.returned = Inbox(), Inbox()
        self._first_open_period = 0
        for offset, batch in batches:
            self.reservations.append(offset, batch)
        for message in outcomes:
            try:
                # rejected outcomes are rejected again: they have settled nothing
                self._match(decode_outcome(message.value()), message.offset() or 0, 2**62, record)
            except RejectedMessage:
                continue

    def expire(self, record: LedgerRecord, now: float) -> LedgerRecord:
        """Expire old reservations. They stay charged, each to its own period."""
        for batch in self.reservations.expire(now - self._seconds):
            lapsed = batch.model[batch.paid == OPEN]
            if len(lapsed):
                log.warning("reservations_lapsed", lane=self.lane, queries=len(lapsed), period=batch.period)
                record = record.with_change(batch.period, partial(Account.lapse, model=lapsed))
        return self._expire_lost(record)

    def _expire_lost(self, record: LedgerRecord) -> LedgerRecord:
        """Expire the open queries of periods whose reservations are gone, for example with a lost topic."""
        first = self.reservations.first_period or record.account.period
        if first > self._first_open_period:
            for period, account in record.past.items():
                lost = np.maximum(account.served - account.settlements - account.lapsed, 0)
                if self._first_open_period <= period < first and lost.any():
                    log.warning("reservations_lost", lane=self.lane, queries=int(lost.sum()), period=period)
                    record = record.with_account(account.lapse(np.repeat(np.arange(len(lost)), lost)))
            self._first_open_period = first
        return record

    @property
    def has_news(self) -> bool:
        """True if outcomes wait, or if outcomes or returned queries were deleted."""
        return bool(self.inbox) or any(one.log_start is not None for one in (self.inbox, self.returned))

    def skip_deleted(self, record: LedgerRecord, now: float) -> LedgerRecord:
        """Continue at the first outcome that the log still has, once all earlier ones are settled.

        Deleted outcomes are a loss only while reservations are open. Otherwise they would have settled
        nothing, or were transaction markers. The same holds for returned queries.
        """
        record = self._skip_deleted(record, "outcomes", self.inbox, record.outcomes_next, now)
        return self._skip_deleted(record, "returned", self.returned, record.returned_next, now)

    def _skip_deleted(
        self, record: LedgerRecord, source: str, inbox: Inbox, position: int, now: float
    ) -> LedgerRecord:
        start = inbox.log_start
        if start is None or (inbox and (inbox[0].offset() or 0) < start):
            return record
        inbox.log_start = None
        if start <= position:
            return record
        if not self.reservations.any_open:
            return record.at_position(f"{source}_next", start)
        log.error(
            f"{source}_deleted",
            lane=self.lane,
            offsets=start - position,
            first=position,
            last=start - 1,
            guide=DELETED_GUIDE,
        )
        return record.without_deleted(source, start, now)

    def has_old(self, now: float) -> bool:
        """Return True if reservations are to expire."""
        return self.reservations.has_old(now - self._seconds)

    def oldest_open(self, models: Sequence[str]) -> dict[str, float]:
        """Return the creation time of the oldest open reservation by LLM, in seconds since the epoch."""
        return {models[i]: at for i, at in self.reservations.oldest_open(len(models)).items()}

    def settle(self, record: LedgerRecord, messages: Sequence[Message]) -> SettlementResult:
        """Settle outcomes.

        Parameters
        ----------
        record : LedgerRecord
        messages : sequence of Message
            In order of their offsets; those before `record.outcomes_next` are skipped.
        """
        reported, residuals = dict(record.reported), dict(record.residuals)
        exceeded = dict(record.exceeded)
        inbox = InboxPass(record.outcomes, record.outcomes_next, "settled")

        def match(message: Message) -> tuple[Outcome, Match | None]:
            outcome = decode_outcome(message.value())
            return outcome, self._match(outcome, message.offset() or 0, record.next, record)

        for _, outcome, batch, row in inbox.settling_messages(messages, match):
            failed = outcome.status == FAILED
            inbox.settle(batch, row, outcome.tokens, failed=failed)
            if not failed:
                answers, above = exceeded.get(outcome.model, (0, 0))
                more = int(batch.paid[row] > batch.charge[row])
                exceeded[outcome.model] = [answers + 1, above + more]
            if outcome.quality is not None:
                sums = reported.get(outcome.model, ReportedQuality())
                reported[outcome.model] = sums.with_answer(
                    outcome.quality, float(batch.quality[row]), outcome.cost
                )
                if (cluster := int(batch.cluster[row])) >= 0:
                    residual = outcome.quality - float(batch.uncorrected[row])
                    differences = residuals.get(outcome.model, QualityResiduals())
                    residuals[outcome.model] = differences.with_answer(cluster, residual)
        updated = replace(
            inbox.apply(record),
            outcomes=inbox.counts,
            reported=reported,
            residuals=residuals,
            exceeded=exceeded,
            outcomes_next=inbox.position,
        )
        return SettlementResult(updated, inbox.refused)

    def _match(self, outcome: Outcome, at: int, next_offset: int, record: LedgerRecord) -> Match | None:
        """Return the reservation that an outcome settles, and mark it as paid; None for a duplicate.

        Raises
        ------
        RejectedMessage
            The outcome settles no reservation of this lane.
        """
        match = batch, row = self.find(outcome, next_offset, record, at)
        actual = int(to_pico(outcome.cost))
        if batch.paid[row] == OPEN:
            batch.paid[row] = actual
            return match
        if batch.returned[row]:
            raise RejectedMessage(
                RejectionReason.WAS_RETURNED, "contradictory", attempt=outcome.attempt, offset=outcome.offset
            )
        if batch.paid[row] == actual:
            return None
        raise RejectedMessage(RejectionReason.COST_CHANGED, "contradictory")

    def find(self, outcome: Outcome, next_offset: int, record: LedgerRecord, at: int | None = None) -> Match:
        """Return the reservation that an outcome names, settled or not.

        Parameters
        ----------
        outcome : Outcome
        next_offset : int
            Offset of the first undecided query.
        record : LedgerRecord
        at : int, optional
            Offset of the outcome, which must not be older than its reservation.
        """
        if outcome.partition != self.lane:
            raise RejectedMessage(
                RejectionReason.OTHER_PARTITION, "unknown", partition=outcome.partition, lane=self.lane
            )
        match = self.reservations.find(outcome.offset, outcome.attempt)
        if match is None:
            first = self.reservations.first_offset
            if outcome.offset < (next_offset if first is None else first):
                raise _late(outcome)
            if outcome.attempt > 1:
                raise RejectedMessage(
                    RejectionReason.NO_SUCH_ATTEMPT, "unknown", offset=outcome.offset, attempt=outcome.attempt
                )
            raise RejectedMessage(RejectionReason.NO_SUCH_QUERY, "unknown", offset=outcome.offset)
        batch, row = match
        if at is not None and at < batch.outcomes_next:
            # after a restart: this outcome came before the query was routed, and was rejected
            raise RejectedMessage(RejectionReason.ROUTED_LATER, "unknown", offset=outcome.offset)
        if int(batch.ids[row]) != id_digest(outcome.id):
            raise RejectedMessage(RejectionReason.OTHER_ID, "contradictory", offset=outcome.offset)
        model = int(batch.model[row])
        if record.models[model] != outcome.model:
            raise RejectedMessage(RejectionReason.OTHER_MODEL, "contradictory", model=record.models[model])
        if record.account_of(batch.period) is None:
            # an older release kept only one past account, so a duplicate cannot be detected
            raise _late(outcome)
        return match


def _late(outcome: Outcome) -> RejectedMessage:
    return RejectedMessage(RejectionReason.EXPIRED, "late", offset=outcome.offset)
