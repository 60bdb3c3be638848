"""Find out whether partitions have committed records at or after an offset, by reading there.

Offsets alone do not say: markers of transactions and aborted records have offsets, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.config.log_throttling import RecurringProblem
from streams.kafka.bounded_clients import Consumer

PROBE_SECONDS = 5.0
PROBE_BYTES = 2**20

Place = tuple[str, int]

RecordProbe = Callable[[Mapping[Place, int]], set[Place]]
"""Returns the partitions that have a committed record at or after an offset; those not known are left out."""


def ends_without_records(config: Mapping[str, Any], places: Mapping[Place, int]) -> dict[Place, int | None]:
    """Look for a committed record of each partition at or after an offset.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    places : mapping of (str, int) to int
        The offset for each partition.

    Returns
    -------
    dict
        None for partitions with such a record; for those without, the offset up to which there is none.
        Partitions of which the broker says nothing in time are missing.

    Raises
    ------
    KafkaException
        From the client.
    """
    ends: dict[Place, int | None] = {}
    deadline = time.monotonic() + PROBE_SECONDS
    with closing(Consumer(dict(config) | {"fetch.max.bytes": PROBE_BYTES})) as consumer:
        consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])
        while len(ends) < len(places) and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.2):
                error, place = message.error(), (message.topic() or "", int(message.partition() or 0))
                if error is None:
                    ends[place] = None
                elif error.code() == KafkaError._PARTITION_EOF:
                    ends.setdefault(place, int(message.offset() or 0))
    return ends


def make_record_probe(config: Mapping[str, Any]) -> RecordProbe:
    """Return a probe that reads from the broker; it reports no records while the broker is unreachable.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    """
    problem = RecurringProblem("health_not_known", "health_known")

    def with_records(places: Mapping[Place, int]) -> set[Place]:
        try:
            ends = ends_without_records(config, places)
        except KafkaException as error:
            problem.occurred(reason=str(error))
            return set()
        problem.resolved()
        return {place for place, end in ends.items() if end is None}

    return with_records
