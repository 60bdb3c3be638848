"""A worker's processors without Faust: the test steps their lanes, on a real broker."""

import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import yaml
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient

from routing.embedding.query_batch import (
    QueryBatch,
)
from routing.embedding.unit_vectors import normalised
from routing.estimators.neighbours import Neighbours
from routing.feedback.clusters import fit_clusters
from routing.history.history import EmbeddedHistory, History
from streams.config.settings import Settings
from streams.kafka.topics import create_topics, existing_partitions, topic_specs
from streams.messages.query import encode_embedding
from streams.router.estimation import Estimation
from streams.router.router import RouterProcessor
from streams.worker.worker import Worker
from tests.read_topics import read_to_end

MODELS = ("small", "vendor/middle", "large")
DIMENSION, ROWS = 8, 60
DEADLINE = 30.0


class LetterEmbedder:
    """Counts letters: enough for texts to be near each other or not."""

    identity = "letters"
    dimension = DIMENSION

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        counts = [[1 + prompt.count(letter) for letter in "abcdefgh"] for prompt in prompts]
        return QueryBatch(list(prompts), normalised(np.array(counts, np.float32)))


def make_estimating(means: tuple[float, ...] = (0.35, 0.6, 0.8), *, learns: bool = False) -> Estimation:
    """A history in which the LLMs have these mean qualities, with task clusters if the router learns."""
    rng = np.random.default_rng(3)
    embedder = LetterEmbedder()
    prompts = ["".join(rng.choice(list("abcdefgh "), 30)) for _ in range(ROWS)]
    cost = np.array([1e-4, 4e-4, 1.5e-3]) * rng.uniform(0.7, 1.3, (ROWS, 3))
    quality = np.clip(np.array(means) + rng.normal(0, 0.2, (ROWS, 3)), 0, 1)
    history = History([f"h{i}" for i in range(ROWS)], prompts, ["task"] * ROWS, MODELS, quality, cost)
    embedded = EmbeddedHistory(history, embedder.embed(prompts).embeddings, embedder.identity)
    clusters = fit_clusters(embedded.embeddings, 2) if learns else None
    return Estimation(embedder, Neighbours(embedded, k=5), embedded, clusters=clusters)


class SteppedRouter:
    """A router of two partitions and an overflow lane.

    Parameters
    ----------
    budgets : dict
        USD by LLM.
    settings : keywords
        Further settings.
    """

    def __init__(
        self,
        servers: str,
        admin: AdminClient,
        name: str,
        folder: Path,
        budgets: dict[str, float],
        **more: object,
    ) -> None:
        prices = {"input_price": 1.0, "output_price": 2.0}
        models = [{"name": model, "budget_usd": usd, **prices} for model, usd in budgets.items()]
        (folder / "catalogue.yaml").write_text(yaml.safe_dump({"models": models}))
        self.admin, self.prefix = admin, f"{name}."
        self.settings = Settings(
            bootstrap_servers=servers,
            topic_prefix=self.prefix,
            app_id=name,
            partitions=2,
            catalogue=folder / "catalogue.yaml",
            warmup="history",
            data_dir=folder,
            **more,  # type: ignore[arg-type]
        )
        self.topics = self.settings.topics
        create_topics(admin, topic_specs(self.settings, self.settings.read_catalogue()))
        self.estimating = make_estimating(learns=self.settings.quality_correction)
        # no consumer group owns the lanes here
        self.router = Worker(self.settings, self.estimating, in_turn=True)
        self._following = [self.router.catalogue, self.router.view, self.router.plans, self.router.feed]
        self._following.append(self.router.returned)
        for one in self._following:
            one.start()
        until(lambda: self.router.view.ready and self.router.catalogue.ready)
        self._planner = self.router.processors.create(self.topics.samples, 0)
        self._planner.open()
        self._open: dict[int, RouterProcessor] = {}
        self._producer = Producer({"bootstrap.servers": servers})

    def close(self) -> None:
        for processor in [self._planner, *self._open.values()]:
            processor.close()
        for one in reversed(self._following):
            one.stop()
        self.router.executor.shutdown()
        topics = [topic for topic in existing_partitions(self.admin) if topic.startswith(self.prefix)]
        for future in self.admin.delete_topics(topics).values():
            future.result(30)

    def variables(self) -> dict[str, str]:
        """Return the environment variables that a command needs."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.brokers(),
            "PORT_TOPIC_PREFIX": self.prefix,
            "PORT_APP_ID": self.settings.app_id,
            "PORT_PARTITIONS": "2",
            "PORT_CATALOGUE": str(self.settings.catalogue),
        }

    def another_planner(self) -> None:
        """One that takes over: it does not wait to see how traffic begins before it hands out rights."""
        self._planner.close()
        self._planner.open()

    def lane(self, number: int) -> RouterProcessor:
        if number not in self._open:
            topic = self.topics.queries if number < 2 else self.topics.overflow
            processor = self.router.processors.create(topic, number if number < 2 else 0)
            assert isinstance(processor, RouterProcessor)
            processor.open()
            self._open[number] = processor
        return self._open[number]

    def plan(self) -> int:
        """Let the planner look at the ledgers as they are, and lanes see its plan; returns the revision."""
        written = {number: processor.record.written_at for number, processor in self._open.items()}
        until(
            lambda: all(
                number in (records := self.router.view.records()) and records[number].written_at == at
                for number, at in written.items()
                if at
            )
        )
        self._planner._round_seconds = 0.0  # type: ignore[attr-defined]
        self._planner.process([])
        newest = self._planner._planner.plan  # type: ignore[attr-defined]
        until(
            lambda: (
                self.router.plans.latest is not None and self.router.plans.latest.revision >= newest.revision
            )
        )
        return newest.revision

    def send(
        self, partition: int, *ids: str, prompts: Sequence[str] | None = None, carried: bool = False
    ) -> None:
        embedder = LetterEmbedder()
        for number, identity in enumerate(ids):
            prompt = prompts[number] if prompts is not None else prompt_of(identity)
            fields: dict[str, object] = {"id": identity, "prompt": prompt}
            if carried:
                fields["embedding"] = encode_embedding(embedder.embed([prompt]).embeddings[0])
            self._producer.produce(self.topics.queries, orjson.dumps(fields), partition=partition)
        self._producer.flush(10)

    def send_raw(self, topic: str, value: bytes | None, partition: int = 0, **more: object) -> None:
        self._producer.produce(topic, value, partition=partition, **more)  # type: ignore[arg-type]
        self._producer.flush(10)

    def step(self, lane: int) -> list[Message]:
        """One transaction with all that waits in the lane's input; returns that."""
        processor = self.lane(lane)
        topic, partition = (self.topics.queries, lane) if lane < 2 else (self.topics.overflow, 0)
        processor.refresh_plan()
        waiting = [
            message
            for message in read_to_end(self.settings.brokers(), [topic])
            if message.partition() == partition and (message.offset() or 0) >= processor.next_offset
        ]
        processor.process([_record(message) for message in waiting])
        return waiting


def prompt_of(identity: str) -> str:
    """Letters that look random, the same for the same id."""
    return "".join("abcdefgh"[byte % 8] for byte in sha256(identity.encode()).digest())


def _record(message: Message) -> SimpleNamespace:
    return SimpleNamespace(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
    )


def until(condition) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
