"""Count queries that were deleted before their lane had read them."""

from __future__ import annotations

import structlog
from confluent_kafka import KafkaException

from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.group_offsets import read_group_offsets
from streams.ledger.record import DELETED_GUIDE, LedgerRecord

log = structlog.get_logger(__name__)


def count_deleted(settings: Settings, record: LedgerRecord, topic: str, partition: int, start: int) -> int:
    """Return the offsets between a lane's position and the start of its log that may have been queries.

    The group's offset is past the transaction markers and aborted records that follow the last record that
    workers have read, so these are not counted.

    Parameters
    ----------
    settings : Settings
    record : LedgerRecord
        The lane's.
    topic : str
    partition : int
    start : int
        The first offset that the log still has.
    """
    try:
        offsets = read_group_offsets(reader_config(settings), settings.app_id, topic, [partition])
    except KafkaException as error:
        log.warning("group_offsets_not_known", topic=topic, partition=partition, reason=str(error))
        offsets = {}
    end = start
    if offsets.get(partition, 0) >= start:
        end = min(start, max(record.next, record.sampled))
    return max(0, end - record.next)


def report_deleted(record: LedgerRecord, topic: str, partition: int, offsets: int, start: int) -> None:
    """Log that queries were deleted, unless there were none."""
    if offsets:
        log.error(
            "queries_deleted",
            topic=topic,
            partition=partition,
            offsets=offsets,
            first=record.next,
            last=start - 1,
            guide=DELETED_GUIDE,
        )
