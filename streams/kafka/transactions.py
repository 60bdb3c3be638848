"""Fenced transactions: one producer per transactional id, and a context manager for its transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka.bounded_clients import Producer
from streams.messages.headers import Headers

log = structlog.get_logger(__name__)

INIT_SECONDS = 30.0
END_SECONDS = 15.0

_TURN = threading.Lock()
"""Held by the producer whose transaction is open, among this process's producers with `in_turn`."""


class Transaction(Protocol):
    """An open transaction, to which messages can be added."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        on_offset: Callable[[int], None] | None = None,
    ) -> None:
        """Add a message; `on_offset` gets its offset before `commit` returns."""
        ...

    def commit(self, next_offset: int | None = None) -> None:
        """Commit now; the end of the block then has nothing to do.

        Parameters
        ----------
        next_offset : int, optional
            Next input offset of the lane, for producers that commit it for the consumer group.
        """
        ...


class TransactionalProducer(Protocol):
    """The producer of a lane."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction; commit it at the end of the block, or roll it back if the block raises."""
        ...

    def close(self) -> object:
        """Roll back an open transaction."""
        ...


class FencedProducer:
    """The only producer of its transactional id. A later one of the same id fences it.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.transactional_config`.
    in_turn : bool
        Transactions of this process with `in_turn` never overlap in time, for brokers that mishandle
        overlapping ones (`streams.kafka.clients.mishandles_overlapping_transactions`).

    Raises
    ------
    KafkaException
        From any method: fenced, timed out, broker gone, not authorised. An open transaction may or may not
        be committed then; open a new producer and read the log.
    """

    def __init__(self, config: Mapping[str, Any], *, in_turn: bool = False) -> None:
        self._in_turn, self._has_turn, self._is_open = in_turn, False, False
        self._producer = Producer(
            {"queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1 << 20} | dict(config)
        )
        # rolls back a former owner's open transaction, and makes its later commits fail
        self._producer.init_transactions(INIT_SECONDS)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begin a transaction; commit it at the end of the block, or roll it back if the block raises."""
        try:
            self.begin()
            yield self
            if self._is_open:
                self.commit()
        finally:
            self.close()

    def begin(self) -> None:
        """Begin a transaction that `commit` or `close` ends."""
        if self._in_turn and not self._has_turn:
            # time out: the holder may have died without releasing the lock
            if not _TURN.acquire(timeout=2 * END_SECONDS):
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "another transaction did not end"))
            self._has_turn = True
        self._is_open = True
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
        """Add a message to the open transaction; `on_offset` gets its offset before `commit` returns."""
        options: dict[str, Any] = {}
        if headers:
            options["headers"] = headers
        if on_offset is not None:
            # no callback for other messages: a thousand callbacks cost more than the decisions
            options["on_delivery"] = lambda error, message: error or on_offset(message.offset())
        self._producer.produce(topic, value, key, partition, **options)

    def send_offsets(self, offsets: list[TopicPartition], membership: object) -> None:
        """Add a consumer group's offsets to the open transaction.

        Parameters
        ----------
        offsets : list of TopicPartition
            Next offset of each partition, with metadata.
        membership : object
            `Consumer.consumer_group_metadata()` from the time of the assignment, or its bytes
            (`streams.kafka.group_membership`). The broker rejects it once the group has continued without
            this member.
        """
        self._producer.send_offsets_to_transaction(offsets, membership, END_SECONDS)

    def commit(self, next_offset: int | None = None) -> None:
        """Commit the open transaction; a lane's ledger has its next offset, so the group does not need it."""
        try:
            # flushing runs `on_offset`; the commit would wait for the same acknowledgements
            unsent = self._producer.flush(END_SECONDS)
        except SystemError as error:
            # a fatal error that is reported while `on_offset` runs surfaces as SystemError
            if isinstance(error.__cause__, KafkaException):
                raise error.__cause__ from None
            raise
        if unsent:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the broker has not taken all messages"))
        self._producer.commit_transaction(END_SECONDS)
        self._end_transaction()

    def close(self) -> bool:
        """Roll back an open transaction, so that readers need not wait for it.

        Returns
        -------
        bool
            False if that failed: the next producer of the same id does it.
        """
        if not self._is_open:
            return True
        try:
            self._producer.abort_transaction(2.0)
        except KafkaException as error:
            log.debug("abort_failed", reason=str(error))
            return False
        finally:
            self._end_transaction()
        return True

    def _end_transaction(self) -> None:
        """Let the next transaction begin: this one is committed or rolled back."""
        self._is_open = False
        if self._has_turn:
            self._has_turn = False
            _TURN.release()
