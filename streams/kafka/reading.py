"""Reading of partitions up to their current ends."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.kafka.bounded_clients import Consumer
from streams.kafka.offsets import Place, watermarks


def read_to_end(
    config: Mapping[str, Any], topic: str, partition: int, start: int = 0, stop: int | None = None
) -> Iterator[Message]:
    """Yield the committed messages of a partition up to its current end.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    topic : str
    partition : int
    start : int
        First offset.
    stop : int, optional
        Offset before which to stop; the end by default.

    Raises
    ------
    KafkaException
        The broker returned an error that is not temporary, or no answer for `SILENCE_SECONDS`.
    """
    place = TopicPartition(topic, partition, start)
    with closing(Consumer(dict(config))) as consumer:
        try:
            for message in read_to_ends(consumer, [place]):
                if stop is not None and (message.offset() or 0) >= stop:
                    return
                yield message
        except TimeoutError as error:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, str(error))) from None


class PartitionEnds:
    """The partitions that were not read to the ends that they had when reading began.

    The new leader of a partition may report an end before messages that its predecessor had committed. Its
    high watermark lags until its followers have fetched. A request for the end offset fails during that time
    (KIP-207) and is repeated, so it returns the true end. An end that a fetch reports before it is ignored.

    Parameters
    ----------
    consumer : Consumer
        With `streams.kafka.clients.reader_config`.
    places : iterable of TopicPartition

    Raises
    ------
    KafkaException
        The broker returned no end; see `streams.kafka.offsets.watermarks`.
    """

    def __init__(self, consumer: Consumer, places: Iterable[TopicPartition]) -> None:
        self.remaining: dict[Place, int] = {
            (place.topic, place.partition): watermarks(consumer, place)[1] for place in places
        }
        """The end of each partition that was not reached yet."""

    def record_end(self, end: Message) -> None:
        """Take in the event that a fetch reached the end of a partition."""
        place = (end.topic() or "", int(end.partition() or 0))
        if (end.offset() or 0) >= self.remaining.get(place, 0):
            self.remaining.pop(place, None)


SILENCE_SECONDS = 30.0
"""Longest wait for a message or for the end of a partition."""


def read_to_ends(consumer: Consumer, places: Iterable[TopicPartition]) -> Iterator[Message]:
    """Yield the messages of partitions up to their current ends, in order within a partition.

    Parameters
    ----------
    consumer : Consumer
        With `streams.kafka.clients.reader_config`, which reports each partition's end. It stays assigned.
    places : iterable of TopicPartition
        Each with its first offset.

    Raises
    ------
    KafkaException
        The broker returned an error that is not temporary.
    TimeoutError
        The broker did not answer for `SILENCE_SECONDS`.
    """
    assigned = list(places)
    ends = PartitionEnds(consumer, assigned)
    if assigned:
        consumer.assign(assigned)
    last_answer = time.monotonic()
    while ends.remaining:
        # `consume` waits until it has a thousand messages, so this is the minimum time for a short topic
        for message in consumer.consume(1000, 0.02):
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                # "all brokers down" arrives as an error, too, and is no end
                ends.record_end(message)
            elif error.retriable() or error.code() < 0:
                continue
            else:
                raise KafkaException(error)
            last_answer = time.monotonic()
        if time.monotonic() - last_answer > SILENCE_SECONDS:
            silent = ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(ends.remaining))
            raise TimeoutError(f"{silent}: no message and no end for {SILENCE_SECONDS:.0f} s")
