"""A small data set, and a round-robin router for tests of producers."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from routing.budgets.catalogue import Catalogue
from streams.config.settings import Settings
from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.topics import create_topics, end_offsets, existing_partitions, topic_specs
from streams.messages.dead_letter import dead_letter_headers
from streams.messages.outcome import (
    Outcome,
    encode_outcome,
)
from streams.messages.query import (
    decode_query,
    encode_routed,
    encode_unserved,
)
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.routing_info import RoutingInfo
from streams.messages.unserved import UnservedReason

MODELS = ("small", "vendor/middle", "large")
RATES = np.array([1e-6, 5e-6, 2e-5])
"""USD per character."""


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, Path]:
    """120 answered questions of 3 LLMs, and their embeddings."""
    rng = np.random.default_rng(7)
    prompts = [f"question {i}: " + "x" * int(rng.integers(10, 60)) for i in range(120)]
    columns: dict[str, object] = {
        "sample_id": [f"s{i}" for i in range(120)],
        "prompt": prompts,
        "eval_name": [f"task-{i % 4}" for i in range(120)],
    }
    for number, (model, rate) in enumerate(zip(MODELS, RATES, strict=True)):
        columns[model] = (rng.random(120) < 0.4 + 0.2 * number).astype(float)
        columns[f"{model}|total_cost"] = rate * np.array([len(prompt) for prompt in prompts])
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    np.save(tmp_path / "data.npy", rng.standard_normal((120, 8)).astype(np.float16))
    return tmp_path / "data.parquet", tmp_path / "data.npy"


class TurnRouter:
    """Routes queries to the LLMs in turn, leaves every tenth unserved and rejects those that ask for it.

    It duplicates, loses or leaves unserved the ids in `twice`, `lose` and `unserved`; the last replaces the
    rule of every tenth. It writes outcomes with the cost `paid` if that is set.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, admin: AdminClient) -> None:
        self.settings, self.catalogue = settings, catalogue
        self.twice: set[str] = set()
        self.lose: set[str] = set()
        self.unserved: set[str] | None = None
        self.price = 1e-5
        self.paid: float | None = None
        self._consumer = Consumer(reader_config(settings))
        starts = end_offsets(admin, [settings.topics.queries])
        self._consumer.assign([TopicPartition(name, part, at) for (name, part), at in starts.items()])
        self._producer = Producer(transactional_config(settings, "turns"))
        self._producer.init_transactions(30)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        turn = 0
        while not self._stopping.is_set():
            messages = [m for m in self._consumer.consume(100, 0.05) if m.error() is None]
            if not messages:
                continue
            self._producer.begin_transaction()
            for message in messages:
                turn += 1
                self._route(message, turn)
            self._producer.commit_transaction(30)

    def _route(self, message, turn: int) -> None:
        topics, where = self.settings.topics, (message.partition(), message.offset())
        try:
            query = decode_query(message.value(), None)
            if "refuse me" in query.prompt:
                raise RejectedMessage(RejectionReason.INVALID_MESSAGES, "prompt", problem="asks for it")
        except RejectedMessage as refused:
            headers = dead_letter_headers(message.headers(), refused, topics.queries, *where, 0)
            self._producer.produce(topics.dlq, message.value(), message.key(), headers=headers)
            return
        if query.id in self.lose:
            return
        model = turn % len(self.catalogue.models)
        name = self.catalogue.names[model]
        routing = RoutingInfo(
            plan=None,
            period=1,
            partition=where[0],
            routed_at=time.time(),
            offset=where[1],
            model=name,
            cost=self.price,
        )
        if turn % 10 == 0 if self.unserved is None else query.id in self.unserved:
            unserved = encode_unserved(query, UnservedReason.NOT_WORTH_IT, routing)
            self._producer.produce(topics.unserved, unserved, message.key())
            return
        for _ in range(2 if query.id in self.twice else 1):
            topic = topics.llm(self.catalogue.slugs[model])
            self._producer.produce(topic, encode_routed(query, routing.encode()), message.key())
        if self.paid is not None:
            outcome = Outcome(query.id, name, self.paid, None, *where)
            self._producer.produce(topics.outcomes, encode_outcome(outcome), partition=where[0])


RouterStarter = Callable[[], TurnRouter]


@pytest.fixture
def stream(
    bootstrap_servers: str,
    admin: AdminClient,
    unique: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RouterStarter]:
    """Set the environment of a test; return a function that creates the topics and starts a router."""
    prefix = unique("producers") + "."
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers)
    monkeypatch.setenv("PORT_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("PORT_APP_ID", prefix.rstrip("."))
    monkeypatch.setenv("PORT_PARTITIONS", "3")
    routers: list[TurnRouter] = []

    def start() -> TurnRouter:
        settings = Settings()
        catalogue = settings.read_catalogue()
        create_topics(admin, topic_specs(settings, catalogue))
        routers.append(TurnRouter(settings, catalogue, admin))
        return routers[-1]

    yield start
    for router in routers:
        router.stop()
    topics = [name for name in existing_partitions(admin) if name.startswith(prefix)]
    for future in (admin.delete_topics(topics) if topics else {}).values():
        future.result(30)
