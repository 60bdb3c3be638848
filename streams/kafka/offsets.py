"""Offset queries that retry while partition leaders change."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka.bounded_clients import Consumer

log = structlog.get_logger(__name__)

SILENCE_SECONDS = 20.0


Place = tuple[str, int]


def partitions_ending_before(config: Mapping[str, Any], offsets: Mapping[Place, int]) -> dict[Place, int]:
    """Return the ends of the partitions that end before a wanted offset; skip those without an answer.

    The function reads from the wanted offsets, because not every broker reports the ends of topics correctly.
    """
    pending = {place: offset for place, offset in offsets.items() if offset > 0}
    if not pending:
        return {}
    ends: dict[Place, int] = {}
    deadline = time.monotonic() + SILENCE_SECONDS
    # a consumer beyond the end restarts at the beginning, or reports the end
    small = {"fetch.message.max.bytes": 1024, "queued.max.messages.kbytes": 1024}
    with closing(Consumer(dict(config) | small)) as consumer:
        consumer.assign([TopicPartition(*place, offset) for place, offset in pending.items()])
        while pending and time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None:
                continue
            place = (message.topic() or "", int(message.partition() or 0))
            error = message.error()
            if place not in pending or (error is not None and error.code() != KafkaError._PARTITION_EOF):
                continue
            offset = int(message.offset() or 0)
            if offset < pending.pop(place):
                ends[place] = offset
            consumer.pause([TopicPartition(*place)])
    if pending:
        log.warning("losses_not_known", topics=sorted({topic for topic, _ in pending}))
    # the offset of a restart shows that the partition ends earlier, not where
    return {place: partition_end(config, place, offset) for place, offset in ends.items()}


def partition_end(config: Mapping[str, Any], place: Place, known: int) -> int:
    """Return the end offset of a partition, or `known` if that is larger."""
    with closing(Consumer(dict(config))) as consumer:
        return max(known, watermarks(consumer, TopicPartition(*place))[1])


PASSING_SECONDS = 30.0
"""Longest wait for a new leader. A partition without one for longer has lost its brokers."""

# temporary errors of offset requests, which librdkafka does not mark as retriable
PASSING_ERRORS = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._NOENT,  # "no leaders found", reported by the admin client itself
}


def watermarks(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Return the first available offset of a partition, and the offset after its last.

    Raises
    ------
    KafkaException
        The broker returned an error that is not temporary, or a temporary one for `PASSING_SECONDS`.
    """
    deadline = time.monotonic() + PASSING_SECONDS
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=10)
            return int(low), int(high)
        except KafkaException as error:
            if error.args[0].code() not in PASSING_ERRORS or time.monotonic() > deadline:
                raise
        time.sleep(0.1)
