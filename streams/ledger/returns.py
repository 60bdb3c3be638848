"""Returned queries: settle their reservations at what the attempts cost, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from confluent_kafka import Message

from routing.budgets.money import to_pico
from streams.ledger.inbox_pass import InboxPass, Match
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import OPEN
from streams.ledger.settlement import Settlement, SettlementResult
from streams.messages.headers import readable_headers
from streams.messages.outcome import Outcome
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.returned import ReturnedQuery, decode_returned


@dataclass(frozen=True)
class AcceptedReturn:
    """A returned query whose reservation was settled, and that is to be decided again.

    Parameters
    ----------
    message : Message
    query : ReturnedQuery
    paid : int
        Actual cost of the attempt in picodollars.
    """

    message: Message
    query: ReturnedQuery
    paid: int


@dataclass(frozen=True)
class ReturnsResult(SettlementResult):
    """Result of settling a batch of returned queries.

    Parameters
    ----------
    accepted : list of AcceptedReturn
    """

    accepted: list[AcceptedReturn]


def settle_returns(
    settlement: Settlement, record: LedgerRecord, messages: Sequence[Message]
) -> ReturnsResult:
    """Settle the reservations of returned queries at what the attempts cost.

    Parameters
    ----------
    record : LedgerRecord
    messages : sequence of Message
        In order of their offsets; those before `record.returned_next` are skipped.
    """
    accepted: list[AcceptedReturn] = []
    inbox = InboxPass(record.returns, record.returned_next, "returned")

    def match(message: Message) -> tuple[ReturnedQuery, Match | None]:
        query = decode_returned(message.value(), readable_headers(message))
        return query, _match_return(settlement, query, record)

    for message, query, batch, row in inbox.settling_messages(messages, match):
        paid = int(batch.paid[row])
        accepted.append(AcceptedReturn(message, query, paid))
        inbox.settle(batch, row, None if paid else 0, failed=True)
    updated = replace(inbox.apply(record), returns=inbox.counts, returned_next=inbox.position)
    return ReturnsResult(updated, inbox.refused, accepted)


def _match_return(settlement: Settlement, query: ReturnedQuery, record: LedgerRecord) -> Match | None:
    """Return the reservation that a return settles, and mark it as returned; None for a duplicate."""
    routing = query.routing
    named = Outcome(
        query.id, query.model, query.cost, None, routing.partition, routing.offset, routing.attempt
    )
    match = batch, row = settlement.find(named, record.next, record)
    actual = int(to_pico(query.cost))
    if batch.paid[row] == OPEN:
        batch.paid[row], batch.returned[row] = actual, True
        return match
    if not batch.returned[row]:
        raise RejectedMessage(
            RejectionReason.WAS_SETTLED, "contradictory", attempt=named.attempt, offset=named.offset
        )
    if batch.paid[row] == actual:
        return None
    raise RejectedMessage(RejectionReason.COST_CHANGED, "contradictory")
