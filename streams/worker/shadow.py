"""Shadow worker: decides the router's queries by other settings, and writes the decisions to a topic only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import KafkaException, Message, TopicPartition

from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.bounded_clients import Consumer, Producer
from streams.kafka.clients import producer_config, reader_config, wait_for_broker
from streams.kafka.follower import consume_available
from streams.kafka.topics import existing_partitions
from streams.messages.headers import headers_of
from streams.planner.catalogue_reader import CatalogueReader
from streams.router.admission import validate_bounded
from streams.router.estimate_cache import EstimateCache
from streams.router.estimation import load_estimation
from streams.router.query_intake import QueryIntake
from streams.router.shadow_lane import ShadowLane
from streams.worker.process_tuning import limit_process
from streams.worker.processor_factory import make_charger, make_token_counter

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.5
FLUSH_SECONDS = 30.0


def shadow_group(settings: Settings) -> str:
    """Return the consumer group of the shadow."""
    return f"{settings.app_id}-shadow"


def main(settings: Settings, start: str) -> int:
    """Run a shadow until SIGTERM or SIGINT.

    Parameters
    ----------
    settings : Settings
        Of the shadow; its names of topics are the router's.
    start : {"latest", "earliest"}
        Where the group begins when it has no offset yet.

    Returns
    -------
    int
        0 after a signal, 1 if another shadow of this router has taken over.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    configure_logs(settings.log_level, settings.log_format)
    limit_process()
    catalogue = settings.read_catalogue()
    admin, topics = wait_for_broker(settings), settings.topics
    existing = existing_partitions(admin)
    if missing := [name for name in (topics.queries, topics.shadow) if name not in existing]:
        raise ValueError(f"topics: {', '.join(missing)} missing; run `python -m streams topics create`")
    estimation = load_estimation(settings, catalogue)
    settings = settings.with_preset(estimation.planning)
    reader = CatalogueReader(settings, lambda version: None)
    admit = validate_bounded if settings.reserve == "bound" else None
    intake = QueryIntake(
        estimation.embedder,
        estimation.dimension,
        estimation.estimator,
        admit,
        cache=EstimateCache(settings.estimate_cache),
    )
    lane = ShadowLane(
        settings,
        estimation,
        reader,
        make_charger(settings, reader, estimation),
        make_token_counter(settings, reader),
        intake,
    )
    log.info("shadow_begins", group=shadow_group(settings), writes_to=topics.shadow)
    return _run(settings, lane, stop, start)


def _run(settings: Settings, lane: ShadowLane, stop: threading.Event, start: str) -> int:
    config = reader_config(settings, shadow_group(settings)) | {
        "auto.offset.reset": start,
        "enable.partition.eof": False,
        # a second shadow of this router replaces the first, instead of taking half of its partitions
        "group.instance.id": "shadow",
        "session.timeout.ms": int(settings.session_timeout_seconds * 1000),
    }
    producer = Producer(producer_config(settings))
    positions, count = _Positions(), 0
    with closing(Consumer(config)) as consumer:
        consumer.subscribe([settings.topics.queries])
        try:
            while not stop.is_set():
                records = _records(consumer, settings.batch_max)
                positions.read(records)
                for record, decision in lane.process(records):
                    _produce(producer, settings.topics.shadow, decision.encode(), record.key)
                    count += 1
                if lane.waits or not positions.pending:
                    continue
                if producer.flush(FLUSH_SECONDS):
                    # a restart before the next commit decides the same queries again
                    log.warning("shadow_not_written", retry="with the next queries")
                    continue
                consumer.commit(offsets=positions.pop(settings.topics.queries), asynchronous=True)
        except KafkaException as error:
            if not error.args[0].fatal():
                raise
            log.error("shadow_replaced", reason=str(error))
            return 1
    log.info("shadow_ends", decisions=count)
    return 0


def _produce(producer: Producer, topic: str, value: bytes, key: Any) -> None:
    """Produce a decision; wait while the client's queue is full, as after a long warm-up."""
    while True:
        try:
            producer.produce(topic, value, key, partition=0)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(WAIT_SECONDS)


class _Positions:
    """Offsets after the queries that were read, by partition."""

    def __init__(self) -> None:
        self.pending: dict[int, int] = {}

    def read(self, records: Iterable[_ReadRecord]) -> None:
        for record in records:
            self.pending[record.partition] = record.offset + 1

    def pop(self, topic: str) -> list[TopicPartition]:
        places = [TopicPartition(topic, number, offset) for number, offset in self.pending.items()]
        self.pending = {}
        return places


class _ReadRecord:
    """A message in the form of a lane's records."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, message: Message) -> None:
        self.topic, self.partition = message.topic() or "", int(message.partition() or 0)
        self.offset, self.timestamp = int(message.offset() or 0), int(message.timestamp()[1])
        self.key: Any = message.key()
        self.value: Any = message.value()
        self.headers: Any = tuple(headers_of(message))


def _records(consumer: Consumer, limit: int) -> list[_ReadRecord]:
    """Return the available queries; errors that pass are logged by the client and tried again."""
    records = []
    for message in consume_available(consumer, limit, WAIT_SECONDS):
        error = message.error()
        if error is None:
            records.append(_ReadRecord(message))
        elif error.fatal():
            raise KafkaException(error)
    return records
