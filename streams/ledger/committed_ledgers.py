"""Reads every lane's committed ledger once."""

from __future__ import annotations

from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.reading import (
    read_to_end,
)
from streams.ledger.record import LedgerRecord
from streams.ledger.record_log import LedgerLog


def read_ledgers(settings: Settings, lanes: int, overflow: bool) -> dict[int, LedgerRecord]:
    """Return the newest record of each lane that has one.

    Parameters
    ----------
    settings : Settings
    lanes : int
        Lanes of the plan in force, the overflow lane included.
    overflow : bool
        True if the last lane is the overflow lane.

    Raises
    ------
    KafkaException
        A ledger cannot be read.
    """
    config, records = reader_config(settings), {}
    for lane in range(lanes):
        pool = overflow and lane == lanes - 1
        position = (settings.topics.overflow_ledger, 0) if pool else (settings.topics.ledger, lane)
        ledger = LedgerLog()
        for message in read_to_end(config, *position):
            ledger.append(message.key(), message.value())
        if (record := ledger.record()) is not None:
            records[lane] = record
    return records
