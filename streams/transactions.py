"""Fenced transactions: one producer for each thing with one owner, and reading back what it committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streams.reading import read_to_ends

log = structlog.get_logger(__name__)

INIT_SECONDS = 30.0
END_SECONDS = 15.0

_TURN = threading.Lock()
"""Held by the producer of this process whose transaction is open, of those that go in turn."""

Headers = list[tuple[str, bytes | None]]


class FencedProducer:
    """The only producer that may write for its transactional id; whoever opens it later fences this one.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.transactional_config`.
    in_turn : bool
        Transactions of this process that are in turn never overlap in time: for a broker that loses sight of
        those that do (`streams.kafka.loses_overlapping`).

    Raises
    ------
    KafkaException
        From any method: fenced, timed out, broker gone, not allowed. Whether an open transaction was
        committed is then unknown; open a new producer and read back the log.
    """

    def __init__(self, config: Mapping[str, Any], *, in_turn: bool = False) -> None:
        self._in_turn, self._has_turn = in_turn, False
        self._producer = Producer(
            {"queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1 << 20} | dict(config)
        )
        # aborts what a former owner left open, and makes its later commits fail
        self._producer.init_transactions(INIT_SECONDS)

    def begin(self) -> None:
        """Begin a transaction."""
        if self._in_turn and not self._has_turn:
            # not for ever: whoever has it may have died without closing
            if not _TURN.acquire(timeout=2 * END_SECONDS):
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "another transaction did not end"))
            self._has_turn = True
        self._producer.begin_transaction()

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        on_offset: Callable[[int], None] | None = None,
    ) -> None:
        """Add a message to the open transaction; `on_offset` is told where it went before `commit` ends."""
        options: dict[str, Any] = {}
        if headers:
            options["headers"] = headers
        if on_offset is not None:
            # no callback on the others: a thousand of them cost more than the decision
            options["on_delivery"] = lambda error, message: error or on_offset(message.offset())
        self._producer.produce(topic, value, key, partition, **options)

    def send_offsets(self, offsets: list[TopicPartition], membership: object) -> None:
        """Add a consumer group's offsets to the open transaction.

        Parameters
        ----------
        offsets : list of TopicPartition
            The next to read of each partition, with metadata.
        membership : object
            `Consumer.consumer_group_metadata()` of when the partitions were assigned: the broker refuses it
            once the group has gone on without this member.
        """
        self._producer.send_offsets_to_transaction(offsets, membership, END_SECONDS)

    def commit(self) -> None:
        """Commit the open transaction."""
        try:
            # the flush is what runs `on_offset`; the commit would wait for the same acknowledgements
            left = self._producer.flush(END_SECONDS)
        except SystemError as error:
            # a fatal error that is told while `on_offset` runs comes up in the middle of that
            if isinstance(error.__cause__, KafkaException):
                raise error.__cause__ from None
            raise
        if left:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the broker has not taken all messages"))
        self._producer.commit_transaction(END_SECONDS)
        self._end_turn()

    def close(self) -> None:
        """Give up an open transaction, so that readers need not wait for it."""
        try:
            self._producer.abort_transaction(2.0)
        except KafkaException as error:
            log.debug("abort_failed", reason=str(error))
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        """Let the next begin: called when a transaction is committed, or given up."""
        if self._has_turn:
            self._has_turn = False
            _TURN.release()


def read_to_end(
    config: Mapping[str, Any], topic: str, partition: int, start: int = 0, stop: int | None = None
) -> Iterator[Message]:
    """Committed messages of a partition up to its end as it is now.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`.
    topic : str
    partition : int
    start : int
        First offset.
    stop : int, optional
        Offset before which to stop; the end by default.

    Raises
    ------
    KafkaException
        The broker said something that waiting does not mend, or nothing for long.
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
