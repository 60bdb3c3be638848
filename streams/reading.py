"""Reading partitions up to where each ends now: the one loop under all that reads topics back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

SILENCE_SECONDS = 30.0
"""A partition that gives nothing for so long, not even its end, is not going to soon."""


def read_to_ends(consumer: Consumer, places: Iterable[TopicPartition]) -> Iterator[Message]:
    """Messages of partitions up to where each ends now, in order within a partition.

    Parameters
    ----------
    consumer : Consumer
        Of `streams.kafka.reader_config`: it tells each partition's end. It is left assigned.
    places : iterable of TopicPartition
        Each with its first offset.

    Raises
    ------
    KafkaException
        The broker said something that waiting does not mend.
    TimeoutError
        It says nothing.
    """
    assigned = list(places)
    left = {(place.topic, place.partition) for place in assigned}
    if assigned:
        consumer.assign(assigned)
    heard = time.monotonic()
    while left:
        # `consume` waits for all of a thousand, so the wait is what reading a short topic costs at least
        for message in consumer.consume(1000, 0.02):
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                # only this is the end: "all brokers down" arrives as an error too
                left.discard((message.topic() or "", int(message.partition() or 0)))
            elif error.retriable() or error.code() < 0:
                continue
            else:
                raise KafkaException(error)
            heard = time.monotonic()
        if time.monotonic() - heard > SILENCE_SECONDS:
            silent = ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(left))
            raise TimeoutError(f"{silent}: no message and no end for {SILENCE_SECONDS:.0f} s")
