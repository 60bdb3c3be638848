"""The topic of a fleet's LLM, filled as the router does, and what the fleet writes."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from confluent_kafka import Producer

from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from streams.config.settings import Settings
from streams.messages.catalogue import (
    CATALOGUE_KEY,
    CatalogueVersion,
)
from streams.messages.outcome import (
    decode_outcome,
)
from tests.conftest import ROOT, TopicReader
from tests.producers.fleet.chat_server import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    TRACEPARENT,
    ChatServer,
)
from tests.producers.fleet.fleet_process import DEADLINE

ANSWER_USD = (2.0 * PROMPT_TOKENS + 10.0 * COMPLETION_TOKENS) / 1e6
"""USD of an answer."""


class RoutedTopic:
    """Writes routed queries as the router does, and reads the answers and outcomes."""

    def __init__(self, settings: Settings, read_topics: TopicReader) -> None:
        self.settings, self._read = settings, read_topics
        self._producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
        self._count = 0

    def put(self, *prompts: str, bound: int | None = None, **fields: object) -> None:
        for prompt in prompts:
            number, self._count = self._count, self._count + 1
            routing = {"model": "vendor/llm", "cost": 0.5, "partition": number % 3, "offset": 100 + number}
            if bound is not None:
                routing["max_tokens"] = bound
            query = {"id": f"q-{prompt}", "prompt": prompt, **fields, "routing": routing}
            self.put_raw(
                orjson.dumps(query), number % 2, [("traceparent", TRACEPARENT.encode()), ("own", b"\xff")]
            )
        self._producer.flush(10)

    def put_raw(self, value: bytes | None, partition: int, headers: list[tuple[str, bytes]]) -> None:
        topic = self.settings.topics.llm("vendor-llm")
        self._producer.produce(topic, value, partition=partition, headers=headers)

    def reprice(self, **prices: float) -> None:
        """Publish a catalogue with other prices, as `plan apply` does."""
        catalogue = Catalogue((Model("vendor/llm", **prices), Model("other")), budget_usd=1.0)
        value = CatalogueVersion(1, catalogue).encode()
        self._producer.produce(self.settings.topics.catalogue, value, CATALOGUE_KEY)
        self._producer.flush(10)

    def answers(self) -> list[dict]:
        return [orjson.loads(m.value()) for m in self._read([self.settings.topics.answers])]

    def outcomes(self) -> list:
        """Return the outcomes with their partitions."""
        messages = self._read([self.settings.topics.outcomes])
        return [(message.partition(), decode_outcome(message.value())) for message in messages]

    def wait_for_answers(self, count: int) -> list[dict]:
        deadline = time.monotonic() + DEADLINE
        while len(answers := self.answers()) < count:
            assert time.monotonic() < deadline, f"{len(answers)} of {count} answers"
            time.sleep(0.1)
        return answers


@contextmanager
def process(server: ChatServer, *options: str) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "producers.fleet", "--llm", "vendor/llm", "--base-url", server.url]
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def assert_settled_once(stream: RoutedTopic, prompts: list[str]) -> None:
    """Assert that each query has one answer and one outcome, in the partition of its reservation."""
    answers, outcomes = stream.answers(), stream.outcomes()
    expected = Counter(f"q-{prompt}" for prompt in prompts)
    assert Counter(answer["id"] for answer in answers) == expected
    assert Counter(outcome.id for _, outcome in outcomes) == expected
    places = {answer["id"]: (answer["partition"], answer["offset"]) for answer in answers}
    for partition, outcome in outcomes:
        assert (outcome.partition, outcome.offset) == places[outcome.id]
        assert partition == outcome.partition
