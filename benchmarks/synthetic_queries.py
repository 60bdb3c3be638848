"""Synthetic queries with embeddings in base64 float16, reproducible by seed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import orjson
from confluent_kafka import Producer

from routing.embedding.unit_vectors import normalised
from routing.history.history import EmbeddedHistory, History
from streams.messages.query import encode_embedding

DIMENSION = 384
MODELS = tuple(f"llm-{i:02d}" for i in range(11))
WORDS = tuple(f"w{i:03d}" for i in range(500))


def prompts(count: int, seed: int, characters: int = 500) -> list[str]:
    """Return texts of about this number of characters."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(WORDS), (count, max(1, characters // 5)))
    return [" ".join(WORDS[i] for i in row) for row in picks]


def vectors(count: int, seed: int) -> np.ndarray:
    """Return unit vectors around 200 centres, [count, DIMENSION]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(200, DIMENSION))
    return normalised(centres[rng.integers(0, 200, count)] + 0.7 * rng.normal(size=(count, DIMENSION)))


def history(rows: int, seed: int = 1) -> EmbeddedHistory:
    """Return a synthetic history of `rows` answered queries."""
    rng = np.random.default_rng(seed)
    quality = (rng.random((rows, len(MODELS))) < np.linspace(0.3, 0.8, len(MODELS))).astype(float)
    cost = np.exp(rng.normal(0, 0.3, (rows, len(MODELS)))) * np.geomspace(1e-5, 1e-3, len(MODELS))
    texts = prompts(rows, seed)
    ids = [f"h{i}" for i in range(rows)]
    return EmbeddedHistory(
        History(ids, texts, ["made-up"] * rows, MODELS, quality, cost), vectors(rows, seed), "made-up"
    )


def messages(count: int, seed: int = 2, *, carried: bool = True) -> list[bytes]:
    """Return the messages of queries."""
    matrix = vectors(count, seed) if carried else None
    texts = prompts(count, seed)
    values = []
    for i, text in enumerate(texts):
        query: dict[str, object] = {"id": f"q{seed}-{i}", "prompt": text}
        if matrix is not None:
            query["embedding"] = encode_embedding(matrix[i])
        values.append(orjson.dumps(query))
    return values


def produce(producer: Producer, topic: str, values: list[bytes], partitions: int) -> None:
    """Produce all messages, spread evenly over the partitions."""
    for i, value in enumerate(values):
        while True:
            try:
                producer.produce(topic, value, partition=i % partitions)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(120)


def paced(
    producer: Producer, topic: str, values: list[bytes], partitions: int, rate: float
) -> Iterator[float]:
    """Produce at a rate (queries/s); yield the time at which each was sent."""
    began = time.time()
    for i, value in enumerate(values):
        if (ahead := began + i / rate - time.time()) > 0:
            producer.poll(0)
            time.sleep(ahead)
        now = time.time()
        producer.produce(topic, value, partition=i % partitions)
        yield now
    producer.flush(60)
