"""Send each request of a batch once: queries and the progress are produced in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import orjson
from confluent_kafka import KafkaError, KafkaException

from producers.batch.requests import Batch, Request
from producers.session_partition import session_partition
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient
from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.reading import (
    read_to_end,
)
from streams.kafka.topics import end_offsets
from streams.kafka.transactions import (
    FencedProducer,
)
from streams.messages.fields import decode_object
from streams.messages.internal_fields import MAX_COUNT, count_field, invalid_field, object_field, time_field
from streams.messages.rejection import RejectedMessage

CHUNK_REQUESTS, CHUNK_BYTES = 500, 8 * 2**20
"""Maximum size of a transaction, so that it ends long before its timeout."""

Positions = dict[str, dict[int, int]]
"""Offset by topic and partition."""


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch, produced to the topic of batches in the same transactions as the queries.

    Parameters
    ----------
    requests : int
        Number of requests in the batch.
    sent : int
        Number of requests, from the first of the file, that are on the topic of queries.
    since : dict
        First offsets of possible answers: the ends of their topics before the first query was sent.
    begun_at : float
        Seconds since the epoch.
    """

    requests: int
    sent: int
    since: Positions
    begun_at: float

    def encode(self) -> bytes:
        """Return the value of the message."""
        since = {
            topic: {str(part): at for part, at in places.items()} for topic, places in self.since.items()
        }
        return orjson.dumps(
            {"requests": self.requests, "sent": self.sent, "since": since, "begun_at": self.begun_at}
        )

    @classmethod
    def decode(cls, value: bytes) -> BatchProgress:
        """Return the progress that `encode` encoded.

        Raises
        ------
        RejectedMessage
            No run of a batch wrote it.
        """
        fields = decode_object(value)
        positions = object_field(fields, "since")
        if not all(map(_are_offsets, positions.values())):
            raise invalid_field(fields, "since", "offsets by topic and partition")
        since = {
            topic: {int(partition): offset for partition, offset in offsets.items()}
            for topic, offsets in positions.items()
        }
        requests, sent = count_field(fields, "requests"), count_field(fields, "sent")
        return cls(requests, sent, since, time_field(fields, "begun_at"))


def _are_offsets(offsets: object) -> bool:
    """Return whether a value is an object with offsets by partition."""
    return isinstance(offsets, dict) and all(
        partition.isdecimal() and partition.isascii() and type(offset) is int and 0 <= offset <= MAX_COUNT
        for partition, offset in offsets.items()
    )


class BatchSender:
    """Sends the requests of a batch that are not sent yet. A later sender of the same batch fences this one.

    Parameters
    ----------
    settings : Settings
    batch : Batch
    admin : AdminClient
    window : float, optional
        Seconds from the first run of the batch until the deadline of its queries.

    Raises
    ------
    ValueError
        From any method: a topic does not exist, another run of the same batch has begun, or the recorded
        progress of the batch is invalid.
    KafkaException
        The broker failed; another run continues from the recorded progress.
    """

    def __init__(
        self, settings: Settings, batch: Batch, admin: AdminClient, window: float | None = None
    ) -> None:
        self._topics, self._batch = settings.topics, batch
        self._partitions = settings.partitions
        answer_topics = [settings.topics.answers, settings.topics.unserved, settings.topics.dlq]
        # fence first: after this, an earlier run can commit nothing
        self._producer = FencedProducer(transactional_config(settings, batch.name))
        since: Positions = {}
        for (topic, partition), at in end_offsets(admin, [*answer_topics, settings.topics.batches]).items():
            if topic in answer_topics:
                since.setdefault(topic, {})[partition] = at
        self.progress = BatchProgress(batch.count, 0, since, time.time())
        for message in read_to_end(reader_config(settings), settings.topics.batches, 0):
            if message.key() == batch.name.encode() and (value := message.value()) is not None:
                try:
                    self.progress = BatchProgress.decode(value)
                except RejectedMessage as error:
                    self._producer.close()
                    place = f"topic {settings.topics.batches}, offset {message.offset()}"
                    raise ValueError(f"{place}: the progress of {batch.name} is invalid: {error}") from None
        deadline = None if window is None else int(1000 * (self.progress.begun_at + window))
        self._added = b"}" if deadline is None else b',"deadline":%d}' % deadline

    def run(self, tick: Callable[[int], None] = lambda sent: None) -> None:
        """Send the remaining requests; call `tick` with the number of committed requests."""
        for chunk in self._chunks():
            progress = replace(self.progress, sent=self.progress.sent + len(chunk))
            try:
                self._transact(chunk, progress)
            except KafkaException as error:
                if error.args[0].code() == KafkaError._FENCED:
                    raise ValueError(
                        f"requests: another run of {self._batch.file.path} has begun and continues from here"
                    ) from None
                raise
            self.progress = progress
            tick(progress.sent)

    def close(self) -> None:
        """Close the producer; requests that are not committed are not sent."""
        self._producer.close()

    def _transact(self, chunk: list[Request], progress: BatchProgress) -> None:
        self._producer.begin()
        for request in chunk:
            value = request.value[:-1] + self._added
            partition = session_partition(value, self._partitions)
            self._producer.produce(
                self._topics.queries,
                value,
                request.query_id.encode(),
                partition=-1 if partition is None else partition,
            )
        self._producer.produce(
            self._topics.batches, progress.encode(), self._batch.name.encode(), partition=0
        )
        self._producer.commit()

    def _chunks(self) -> Iterator[list[Request]]:
        chunk: list[Request] = []
        size = 0
        for request in self._batch.requests(self.progress.sent):
            if chunk and (len(chunk) == CHUNK_REQUESTS or size + len(request.value) > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(request)
            size += len(request.value)
        if chunk:
            yield chunk
