"""The Python examples of README.md and docs/consuming.md, run unchanged against a broker."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.messages.outcome import (
    decode_outcome,
)
from streams.messages.query import (
    decode_query,
)
from streams.messages.returned import decode_returned
from tests.conftest import TopicMaker, TopicReader
from tests.infra.code_blocks import code_blocks

DEADLINE_SECONDS = 60.0
LLM = "def ask_the_llm(prompt):\n    return prompt.upper(), 0.25\n"


def example(*clients: str) -> str:
    """Return the one Python block of README.md that creates exactly these clients of confluent-kafka."""
    blocks = [block.text for block in code_blocks("python") if block.page == "README.md"]
    (program,) = [block for block in blocks if created(block) == set(clients)]
    return program


def created(program: str) -> set[str]:
    return set(re.findall(r"\b(Consumer|Producer)\(", program))


class Examples:
    """The examples of README.md with the addresses and topics of a test."""

    def __init__(self, servers: str, folder: Path, names: dict[str, str]) -> None:
        self.servers, self._folder, self.names = servers, folder, names
        self._produce, self._consume = example("Producer"), example("Consumer", "Producer")

    @contextmanager
    def _running(self, program: str, *names: str) -> Iterator[subprocess.Popen[str]]:
        for text in ("localhost:9092", *names):
            assert f'"{text}"' in program, f"README's example does not name {text}"
            program = program.replace(f'"{text}"', f'"{self.names.get(text, self.servers)}"')
        path = self._folder / "example.py"
        path.write_text(program)
        with subprocess.Popen([sys.executable, str(path)], stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def produce(self) -> subprocess.CompletedProcess[str]:
        with self._running(self._produce, "queries") as process:
            _, errors = process.communicate(timeout=DEADLINE_SECONDS)
        return subprocess.CompletedProcess([], process.returncode, stderr=errors)

    @contextmanager
    def fleet(self) -> Iterator[subprocess.Popen[str]]:
        names = ("fleet-gpt-4", "outcomes", "llm.gpt-4-1106-preview")
        with self._running(LLM + self._consume, *names) as process:
            yield process

    def route(self, partition: int) -> None:
        """Write a routed query, as the router does."""
        routing = {"model": "gpt-4", "cost": 0.5, "partition": partition, "offset": 7, "attempt": 1}
        producer = Producer({"bootstrap.servers": self.servers})
        value = orjson.dumps({"id": "a1", "prompt": "why", "routing": routing})
        producer.produce(self.names["llm.gpt-4-1106-preview"], value)
        assert producer.flush(30) == 0

    def committed(self) -> int:
        """Return the fleet's committed offset; negative if there is none."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.names["fleet-gpt-4"]})
        try:
            place = TopicPartition(self.names["llm.gpt-4-1106-preview"], 0)
            return int(consumer.committed([place], timeout=10)[0].offset)
        finally:
            consumer.close()


@pytest.fixture
def examples(
    bootstrap_servers: str, make_topic: TopicMaker, unique: Callable[[str], str], tmp_path: Path
) -> Examples:
    names = {
        "queries": make_topic("queries", 2),
        "outcomes": make_topic("outcomes", 3),
        "llm.gpt-4-1106-preview": make_topic("llm", 1),
        "fleet-gpt-4": unique("fleet"),
    }
    return Examples(bootstrap_servers, tmp_path, names)


def test_readme_producer_sends_a_valid_query(examples: Examples, read_topics: TopicReader) -> None:
    done = examples.produce()
    assert done.returncode == 0, done.stderr
    (message,) = read_topics([examples.names["queries"]])
    query = decode_query(message.value(), None)
    assert (query.prompt, query.max_tokens) == ("Why is the sky blue?", 200)


def test_readme_producer_undelivered_query_is_reported(examples: Examples) -> None:
    examples.names["queries"] = "not a topic"
    done = examples.produce()
    assert done.returncode == 1
    assert "was not delivered" in done.stderr


def test_readme_consumer_writes_an_outcome_and_commits(examples: Examples, read_topics: TopicReader) -> None:
    examples.route(partition=2)
    with examples.fleet() as process:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while examples.committed() != 1:
            assert process.poll() is None
            assert time.monotonic() < deadline, "the offset is committed"
            time.sleep(0.1)
    (message,) = read_topics([examples.names["outcomes"]])
    outcome = decode_outcome(message.value())
    assert (outcome.id, outcome.model, outcome.cost) == ("a1", "gpt-4", 0.25)
    assert (message.partition(), outcome.partition, outcome.offset) == (2, 2, 7)


def test_readme_consumer_undelivered_outcome_is_not_committed(examples: Examples) -> None:
    examples.route(partition=99)  # the topic of outcomes has no such partition
    with examples.fleet() as process:
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "outcome of a1" in errors
    assert examples.committed() < 0


def test_example_of_consuming_returns_a_query_that_the_router_accepts(
    examples: Examples, make_topic: TopicMaker, read_topics: TopicReader
) -> None:
    examples.route(partition=2)
    (routed,) = read_topics([examples.names["llm.gpt-4-1106-preview"]])
    (block,) = [block for block in code_blocks("python") if block.page == "docs/consuming.md"]
    topic = make_topic("returned", 3)
    names = {"json": json, "failures": [], "producer": Producer({"bootstrap.servers": examples.servers})}
    assert '"queries.returned"' in block.text
    exec(block.text.replace('"queries.returned"', f'"{topic}"'), names)

    names["give_back"](routed, "timeout", 0.5)  # type: ignore[operator]
    (message,) = read_topics([topic])
    returned = decode_returned(message.value(), message.headers())
    assert message.partition() == 2
    assert (returned.reason, returned.cost) == ("timeout", 0.5)
