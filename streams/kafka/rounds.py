"""Rounds: the transactions of a worker, each of which commits the batches of all lanes that are ready.

A worker has one transactional producer. A lane that has decided a batch joins the next round and waits for
its end; batches that become ready meanwhile form the round after it. Every round sends the next input offset
of each of its lanes with the worker's membership of the consumer group. The broker refuses them once the
group has continued in another generation, so a worker that lost a lane cannot commit to it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka.alternating_producers import AlternatingProducers
from streams.kafka.group_membership import GroupMembership
from streams.kafka.offsets import Place
from streams.kafka.transactions import Transaction
from streams.messages.headers import Headers

log = structlog.get_logger(__name__)

MAX_ROUND_MESSAGES = 20_000
"""A round takes no further lane once it has this many messages."""

MAX_PARTITION_BYTES = 5 * 2**20
"""A round takes no further lane with which its messages for a partition would have more bytes than this.

Lanes share partitions of LLMs' topics, and a round's messages for a partition go out in one request
(`streams.kafka.clients.BATCH_BYTES`).
"""

Message = tuple[str, bytes | None, bytes | None, Headers | None, int, Callable[[int], None] | None]
"""Arguments of `FencedProducer.produce`."""


def record_digest(value: bytes) -> str:
    """Return the digest of a lane's record, which the group's offset of the lane carries.

    Examples
    --------
    >>> record_digest(b"record")
    'd4b64d628970a496'
    """
    return blake2b(value, digest_size=8).hexdigest()


@dataclass(eq=False)
class LaneBatch:
    """The messages of one lane's transaction, while they wait for their round and are in it.

    Parameters
    ----------
    lane : LaneProducer
    messages : list of Message
    next_offset : int
        Next input offset of the lane after the batch.
    digest : str
        Of the lane's record after the batch.

    Attributes
    ----------
    sizes : Counter of (topic, partition)
        Bytes of the messages' values by partition.
    """

    lane: LaneProducer
    messages: list[Message]
    next_offset: int
    digest: str
    error: BaseException | None = None
    done: bool = False
    wake: threading.Event = field(default_factory=threading.Event)
    """Set when the batch is done, or when its thread is to run the next round."""
    sizes: Counter[Place] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        for topic, value, _, _, partition, _ in self.messages:
            self.sizes[topic, partition] += len(value or b"")

    def fits(self, sizes: Counter[Place]) -> bool:
        """Return whether a round whose partitions have these bytes may take the batch."""
        return all(sizes[place] + size <= MAX_PARTITION_BYTES for place, size in self.sizes.items())


class LaneProducer:
    """The producer of one lane: its transactions are parts of its worker's rounds.

    Parameters
    ----------
    rounds : Rounds
    place : Place
        Topic and partition of the lane's input.
    record_topic : str
        Topic of the lane's record: the last message of a transaction there decides where the lane continues.
    digest : str
        Of the lane's committed record; empty if there is none.
    """

    def __init__(self, rounds: Rounds, place: Place, record_topic: str, digest: str) -> None:
        self._rounds, self.place, self._record_topic, self._digest = rounds, place, record_topic, digest
        self._messages: list[Message] | None = None
        self.valid = True
        """False once the worker may have lost the lane since it was opened."""

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begin a transaction. The block must commit it with the lane's next offset, or it is dropped."""
        self._messages = []
        try:
            yield self
        finally:
            self.close()

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
        assert self._messages is not None, "no transaction is open"
        self._messages.append((topic, value, key, headers, partition, on_offset))

    def commit(self, next_offset: int | None = None) -> None:
        """Wait for the round that commits this transaction.

        Parameters
        ----------
        next_offset : int
            The lane's next input offset.

        Raises
        ------
        KafkaException
            The round failed, or the worker may have lost the lane. The batch may or may not be committed.
        """
        assert self._messages is not None, "no transaction is open"
        assert next_offset is not None, "a lane commits with its next offset"
        values = (value for topic, value, *_ in reversed(self._messages) if topic == self._record_topic)
        record = next((value for value in values if value is not None), None)
        digest = self._digest if record is None else record_digest(record)
        messages, self._messages = self._messages, None
        self._rounds.commit(LaneBatch(self, messages, next_offset, digest))
        self._digest = digest

    def claim(self, next_offset: int) -> None:
        """Commit an offset of the lane without a batch, with the worker that its next owner has to fence.

        Raises
        ------
        KafkaException
            The round failed: for example, the group has continued in another generation.
        """
        self._rounds.commit(LaneBatch(self, [], next_offset, self._digest))

    def close(self) -> None:
        """Drop the messages of a transaction that was not committed."""
        self._messages = None


class Rounds:
    """The transactions of one worker.

    Parameters
    ----------
    transactional_id : str
    open_producers : callable
        Opens the producers of that id, and fences their former owner.
    on_wait : callable
        Called in the thread of a batch before it waits for its round.
    """

    def __init__(
        self,
        transactional_id: str,
        open_producers: Callable[[], AlternatingProducers],
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.transactional_id = transactional_id
        self._open_producers, self._on_wait = open_producers, on_wait
        self._producers: AlternatingProducers | None = None
        self._opening, self._lock = threading.Lock(), threading.Lock()
        self._membership: GroupMembership | None = None
        self._lanes: dict[Place, LaneProducer] = {}
        self._waiting: list[LaneBatch] = []
        self._running = False
        self._alone: set[Place] = set()
        """Lanes of a failed round, each in a round of its own until it succeeds."""

    def assign(self, membership: GroupMembership, retained: set[Place]) -> bool:
        """Continue with the lanes that this worker kept, in another generation of the group.

        Parameters
        ----------
        membership : GroupMembership
        retained : set of Place
            Inputs that the worker owned before and still owns.

        Returns
        -------
        bool
            False if another worker may have owned the kept lanes in between: they must be opened again.
        """
        with self._lock:
            continues = membership.follows(self._membership)
            self._membership = membership
            for place in list(self._lanes):
                if not continues or place not in retained:
                    self._lanes.pop(place).valid = False
            return continues

    def open_lane(self, place: Place, record_topic: str, digest: str) -> LaneProducer:
        """Return the producer of a lane; a former one of the same lane cannot commit any more."""
        lane = LaneProducer(self, place, record_topic, digest)
        with self._lock:
            if place in self._lanes:
                self._lanes[place].valid = False
            self._lanes[place] = lane
        return lane

    def commit_offset(self, place: Place, next_offset: int) -> None:
        """Commit the group's offset of a lane that has nothing else to commit, if this worker has the lane.

        Raises
        ------
        KafkaException
            The round failed.
        """
        with self._lock:
            lane = self._lanes.get(place)
        if lane is not None:
            lane.claim(next_offset)

    def producers(self) -> AlternatingProducers:
        """Return the open producers. Opening them ends what former ones of the same ids had begun.

        Raises
        ------
        KafkaException
            The broker does not open them.
        """
        with self._opening:
            if self._producers is None:
                self._producers = self._open_producers()
            return self._producers

    def commit(self, batch: LaneBatch) -> None:
        """Put a batch into the next round, and return when that has ended.

        The thread of one of the waiting batches runs the round, so that a single lane needs no other thread.

        Raises
        ------
        KafkaException
            The round failed.
        """
        self._on_wait()
        with self._lock:
            self._waiting.append(batch)
            leads, self._running = not self._running, True
        if not leads:
            batch.wake.wait()
        if not batch.done:
            self._lead_round()
        if isinstance(batch.error, KafkaException):
            # an exception of its own for each thread
            raise KafkaException(*batch.error.args) from batch.error
        if batch.error is not None:
            raise batch.error

    def close(self) -> None:
        """Release the producer."""
        with self._opening:
            self._producers = None

    # ---- a round -----------------------------------------------------------------------------------------

    def _lead_round(self) -> None:
        """Run the next round, then let a batch that waits run the round after it."""
        with self._lock:
            batches = self._pop_round()
            membership = self._membership
            members = [batch for batch in batches if batch.lane.valid and membership is not None]
        for batch in batches:
            if batch not in members:
                batch.error = _error(KafkaError.ILLEGAL_GENERATION, "the worker may have lost this lane")
        try:
            if members and membership is not None:
                self._run(members, membership)
            self._alone -= {batch.lane.place for batch in members}
        except BaseException as error:
            for batch in members:
                batch.error = error
            if len(members) > 1:
                self._alone |= {batch.lane.place for batch in members}
        finally:
            for batch in batches:
                batch.done = True
            with self._lock:
                next_leader = self._waiting[0] if self._waiting else None
                self._running = next_leader is not None
            for batch in [*batches, *([next_leader] if next_leader else [])]:
                batch.wake.set()

    def _pop_round(self) -> list[LaneBatch]:
        """Remove the batches of the next round from those that wait."""
        first = self._waiting[0]
        batches, messages, sizes = [first], len(first.messages), Counter(first.sizes)
        if first.lane.place not in self._alone:
            for batch in self._waiting[1:]:
                if messages >= MAX_ROUND_MESSAGES:
                    break
                if batch.lane.place not in self._alone and batch.fits(sizes):
                    batches.append(batch)
                    messages += len(batch.messages)
                    sizes += batch.sizes
        batch_ids = set(map(id, batches))
        self._waiting = [batch for batch in self._waiting if id(batch) not in batch_ids]
        return batches

    def _run(self, batches: list[LaneBatch], membership: GroupMembership) -> None:
        """Commit batches in one transaction with their lanes' offsets.

        Raises
        ------
        KafkaException
            The transaction was rolled back, or its end is unknown. In that case the next producer ends it.
        """
        producer = self.producers().next()
        committed = False
        try:
            producer.begin()
            for batch in batches:
                for message in batch.messages:
                    producer.produce(*message)
            producer.send_offsets([self._offset(batch) for batch in batches], membership.encode())
            producer.commit()
            committed = True
        finally:
            if not committed and not producer.close():
                with self._opening:
                    self._producers = None

    def _offset(self, batch: LaneBatch) -> TopicPartition:
        """Return a lane's offset, with the digest of its record and the transactional id."""
        topic, partition = batch.lane.place
        return TopicPartition(
            topic, partition, batch.next_offset, f"{batch.digest or '-'} {self.transactional_id}"
        )


def _error(code: int, reason: str) -> KafkaException:
    return KafkaException(KafkaError(code, reason))
