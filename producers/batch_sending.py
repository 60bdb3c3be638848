"""Sending a batch, each request once: queries and the note of how far it is are one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import orjson
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from producers.batch_requests import Batch, Request
from streams.kafka import reader_config, transactional_config
from streams.settings import Settings
from streams.topics import end_offsets
from streams.transactions import FencedProducer, read_to_end

CHUNK_REQUESTS, CHUNK_BYTES = 500, 8 * 2**20
"""A transaction has no more than this, so that it is over long before it times out."""

Positions = dict[str, dict[int, int]]
"""By topic and partition: an offset."""


@dataclass(frozen=True)
class Note:
    """How far a batch is; kept on the topic of batches, in the same transactions as the queries.

    Parameters
    ----------
    requests : int
        In the whole batch.
    sent : int
        The first so many requests of the file are on the topic of queries.
    since : dict
        Where answers may begin: the ends of their topics before the first query was sent.
    begun_at : float
        Seconds since the epoch.
    """

    requests: int
    sent: int
    since: Positions
    begun_at: float

    def encode(self) -> bytes:
        """As a message's value."""
        since = {
            topic: {str(part): at for part, at in places.items()} for topic, places in self.since.items()
        }
        return orjson.dumps(
            {"requests": self.requests, "sent": self.sent, "since": since, "begun_at": self.begun_at}
        )

    @classmethod
    def decode(cls, value: bytes) -> Note:
        """What `encode` wrote."""
        fields = orjson.loads(value)
        since = {
            topic: {int(part): at for part, at in places.items()} for topic, places in fields["since"].items()
        }
        return cls(fields["requests"], fields["sent"], since, fields["begun_at"])


class Sender:
    """Sends what of a batch is not sent yet. Whoever opens one later for the same batch fences this one.

    Parameters
    ----------
    settings : Settings
    batch : Batch
    admin : AdminClient

    Raises
    ------
    ValueError
        From any method: a topic is not there, or another run of the same batch has begun.
    KafkaException
        The broker is away; running again goes on, for the note says how far it is.
    """

    def __init__(self, settings: Settings, batch: Batch, admin: AdminClient) -> None:
        self._topics, self._batch = settings.topics, batch
        answering = [settings.topics.answers, settings.topics.unserved, settings.topics.dlq]
        # first the fence: after it, nothing of a former run can be committed any more
        self._producer = FencedProducer(transactional_config(settings, batch.name))
        since: Positions = {}
        for (topic, partition), at in end_offsets(admin, [*answering, settings.topics.batches]).items():
            if topic in answering:
                since.setdefault(topic, {})[partition] = at
        self.note = Note(batch.count, 0, since, time.time())
        for message in read_to_end(reader_config(settings), settings.topics.batches, 0):
            if message.key() == batch.name.encode() and (value := message.value()) is not None:
                self.note = Note.decode(value)

    def run(self, tick: Callable[[int], None] = lambda sent: None) -> None:
        """Send the rest; `tick` is told how many requests are sent, committed ones only."""
        for chunk in self._chunks():
            note = replace(self.note, sent=self.note.sent + len(chunk))
            try:
                self._transact(chunk, note)
            except KafkaException as error:
                if error.args[0].code() == KafkaError._FENCED:
                    raise ValueError(
                        f"requests: another run of {self._batch.path} has begun, and goes on from here"
                    ) from None
                raise
            self.note = note
            tick(note.sent)

    def close(self) -> None:
        """Give up what is not committed."""
        self._producer.close()

    def _transact(self, chunk: list[Request], note: Note) -> None:
        self._producer.begin()
        for request in chunk:
            self._producer.produce(self._topics.queries, request.value, request.query_id.encode())
        self._producer.produce(self._topics.batches, note.encode(), self._batch.name.encode(), partition=0)
        self._producer.commit()

    def _chunks(self) -> Iterator[list[Request]]:
        chunk: list[Request] = []
        size = 0
        for request in self._batch.requests(self.note.sent):
            if chunk and (len(chunk) == CHUNK_REQUESTS or size + len(request.value) > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(request)
            size += len(request.value)
        if chunk:
            yield chunk
