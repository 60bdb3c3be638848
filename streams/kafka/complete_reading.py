"""Reading of a partition to a proven end: nothing committed before the call is missed.

A reader of committed records reports the end of a partition where the broker that answers believes it to be.
That can be too early: a new leader learns the high watermark of its predecessor only after its election, and
an open transaction hides everything that was committed behind its first record. The end is therefore asked
for first. A leader returns its high watermark only once it covers all that was acknowledged before its
election (KIP-207), and that offset must then be reached, past all transactions that were open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.kafka.bounded_clients import Consumer
from streams.kafka.follower import consume_available

BLOCKED_SECONDS = 1.0
"""Wait for an open transaction to end by itself, before `on_blocked` is called."""

GIVE_UP_SECONDS = 30.0
"""Longest time without progress: longer than the broker lets a transaction stay open by default."""


def read_completely(
    config: Mapping[str, Any],
    place: TopicPartition,
    end: int,
    *,
    awaited: Callable[[Message], bool] | None = None,
    on_blocked: Callable[[], None] = lambda: None,
) -> Iterator[Message]:
    """Yield the committed messages of a partition from an offset to a known end.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.reader_config`.
    place : TopicPartition
        With the first offset.
    end : int
        Offset to reach, such as the partition's high watermark.
    awaited : callable, optional
        Returns True for a message that is known to be committed. Reading continues until it has come, even
        past `end`.
    on_blocked : callable, optional
        Called once if reading stands still before the end.

    Raises
    ------
    KafkaException
        The broker returned an error that is not temporary, or there was no progress for `GIVE_UP_SECONDS`.
    """
    if place.offset >= end and awaited is None:
        return
    position, awaited_came, blocked = place.offset, awaited is None, False
    with closing(Consumer({**config, "fetch.wait.max.ms": 20})) as consumer:
        consumer.assign([place])
        progress_at = time.monotonic()
        while position < end or not awaited_came:
            for message in consume_available(consumer, 1000, 0.05):
                error, offset = message.error(), int(message.offset() or 0)
                if error is None:
                    progress_at, position = time.monotonic(), offset + 1
                    awaited_came = awaited_came or (awaited is not None and awaited(message))
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    # past the markers of transactions, which are no messages
                    if offset > position:
                        progress_at, position = time.monotonic(), offset
                elif not error.retriable() and error.code() >= 0:
                    raise KafkaException(error)
            silent = time.monotonic() - progress_at
            if silent > BLOCKED_SECONDS and not blocked:
                blocked = True
                on_blocked()
            if silent > GIVE_UP_SECONDS:
                name = f"{place.topic}[{place.partition}]"
                missing = f"offset {end}" if position < end else "the record of the last transaction"
                raise KafkaException(
                    KafkaError(
                        KafkaError._TIMED_OUT,
                        f"{name}: read to {position}, but not to {missing} in {GIVE_UP_SECONDS:.0f} s",
                    )
                )
