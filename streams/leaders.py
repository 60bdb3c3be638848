"""What passes while partitions get new leaders, and asking until it has passed."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

PASSING_SECONDS = 30.0
"""A partition that nobody leads for so long has lost its brokers."""

# librdkafka's clients do not call these retriable when they ask for offsets, though they pass
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
    KafkaError._NOENT,  # "no leaders found", which is how the admin client itself says it
}


def watermarks(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """The first offset of a partition that is still there, and the one after its last.

    Raises
    ------
    KafkaException
        The broker said something that waiting does not mend, or for too long.
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
