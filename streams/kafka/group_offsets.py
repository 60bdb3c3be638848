"""Committed offsets of consumer groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from streams.kafka.bounded_clients import Consumer

OFFSETS_TIMEOUT_SECONDS = 10.0


def forward_group(app_id: str) -> str:
    """Return the group whose offsets say which queries on added partitions were forwarded.

    Examples
    --------
    >>> forward_group("port")
    'port.forward'
    """
    return f"{app_id}.forward"


def read_group_offsets(
    config: Mapping[str, Any], group: str, topic: str, partitions: Iterable[int]
) -> dict[int, int]:
    """Return a group's committed offset by partition, where there is one.

    Offsets in a transaction that is still open do not count yet.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    group : str
    topic : str
    partitions : iterable of int

    Raises
    ------
    KafkaException
        The broker does not return the offsets, or does not permit reading them.
    """
    places = [TopicPartition(topic, number) for number in partitions]
    if not places:
        return {}
    # reading uncommitted: otherwise the broker returns nothing while a transaction with offsets is open
    own = {"group.id": group, "isolation.level": "read_uncommitted"}
    with closing(Consumer(dict(config) | own)) as consumer:
        return committed_offsets(consumer, places)


def committed_offsets(consumer: Consumer, places: list[TopicPartition]) -> dict[int, int]:
    """Return the committed offset of the consumer's group by partition, where there is one.

    Raises
    ------
    KafkaException
        The broker does not return the offsets, or does not permit reading them.
    """
    offsets = {}
    for place in consumer.committed(places, OFFSETS_TIMEOUT_SECONDS):
        if place.error is not None:
            raise KafkaException(place.error)
        if place.offset >= 0:
            offsets[place.partition] = int(place.offset)
    return offsets
