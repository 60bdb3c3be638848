"""Read back what a lane committed: its ledger record, its open reservations and their outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Message

from routing.policy.account import Account
from streams.config.topic_names import Topics
from streams.kafka.topic_access import TopicAccess
from streams.ledger.record import LedgerRecord
from streams.ledger.record_log import LedgerLog
from streams.ledger.reservations import ReservationBatch, decode_reservations


@dataclass(frozen=True)
class LaneState:
    """The committed state of a lane.

    Parameters
    ----------
    record : LedgerRecord
        The last record, or a fresh one for a lane without a ledger.
    accounts : mapping of int to Account
        Accounts of past periods that the ledger's topic holds, by period.
    reservations : list of (offset, ReservationBatch)
        From the record's `reservations_from` on.
    outcomes : list of Message
        Outcomes settled since the oldest of these batches was written.
    """

    record: LedgerRecord
    accounts: Mapping[int, Account]
    reservations: list[tuple[int, ReservationBatch]]
    outcomes: list[Message]


def read_lane_state(
    access: TopicAccess, topics: Topics, lane: int, ledger_topic: str, ledger_partition: int
) -> LaneState:
    """Read a lane's committed state to the end of its topics."""
    ledger = LedgerLog()
    for message in access.read(ledger_topic, ledger_partition):
        ledger.append(message.key(), message.value())
    record = ledger.record() or LedgerRecord.fresh(lane)
    batches = [
        (message.offset() or 0, decode_reservations(value))
        for message in access.read(topics.reservations, lane, record.reservations_from)
        if (value := message.value()) is not None
    ]
    first = batches[0][1].outcomes_next if batches else record.outcomes_next
    outcomes = (
        list(access.read(topics.outcomes, lane, first, record.outcomes_next))
        if first < record.outcomes_next
        else []
    )
    return LaneState(record, ledger.accounts(), batches, outcomes)
