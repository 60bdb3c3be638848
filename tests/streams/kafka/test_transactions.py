"""Fenced producers: commits, roll-backs, errors of the client, and transactions in turn."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.config.settings import Settings
from streams.kafka import transactions
from streams.kafka.clients import transactional_config
from streams.kafka.topic_config import MIN_BATCH_BYTES
from streams.kafka.transactions import (
    FencedProducer,
)
from tests.conftest import TopicMaker
from tests.end_to_end.worker_process import wait_for

FENCED = KafkaException(KafkaError(KafkaError._FENCED, "an old epoch"))


class Client:
    """A client's producer with a flush of the test's choice; it records calls."""

    def __init__(self, flush: Callable[[], int]) -> None:
        self._flush, self.commits = flush, 0
        self.calls: list[str] = []

    def init_transactions(self, seconds: float) -> None: ...

    def flush(self, seconds: float) -> int:
        return self._flush()

    def begin_transaction(self) -> None:
        self.calls.append("begin")

    def produce(self, topic: str, value: bytes, key: bytes | None, partition: int) -> None:
        self.calls.append(topic)

    def commit_transaction(self, seconds: float) -> None:
        self.commits += 1
        self.calls.append("commit")

    def abort_transaction(self, seconds: float) -> None:
        self.calls.append("abort")


def produced(monkeypatch: pytest.MonkeyPatch, flush: Callable[[], int]) -> tuple[FencedProducer, Client]:
    client = Client(flush)
    monkeypatch.setattr(transactions, "Producer", lambda config: client)
    return FencedProducer({}), client


def broken() -> int:
    # as confluent-kafka has it when the fatal error comes while a delivery is reported
    raise SystemError("<method 'offset'> returned a result with an exception set") from FENCED


def test_commit_fatal_error_during_delivery_report_raises_it(monkeypatch):
    producer, client = produced(monkeypatch, broken)
    with pytest.raises(KafkaException, match="old epoch"):
        producer.commit()
    assert client.commits == 0


def test_commit_other_system_error_is_raised_unchanged(monkeypatch):
    def bad() -> int:
        raise SystemError("bad internal call")

    producer, client = produced(monkeypatch, bad)
    with pytest.raises(SystemError, match="bad internal call"):
        producer.commit()
    assert client.commits == 0


def test_commit_unsent_messages_raise_and_commit_nothing(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 3)
    with pytest.raises(KafkaException, match="not taken all"):
        producer.commit()
    assert client.commits == 0


def test_commit_flushed_transaction_is_committed(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 0)
    producer.commit()
    assert client.commits == 1


def test_transaction_block_ends_commits_once(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 0)
    with producer.transaction() as transaction:
        transaction.produce("topic", b"1")
    assert client.calls == ["begin", "topic", "commit"]


def test_transaction_commit_in_the_block_commits_once(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 0)
    with producer.transaction() as transaction:
        transaction.produce("topic", b"1")
        transaction.commit()
    producer.close()
    assert client.calls == ["begin", "topic", "commit"]


def test_transaction_block_raises_rolls_back(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 0)

    def produce_and_fail() -> None:
        with producer.transaction() as transaction:
            transaction.produce("topic", b"1")
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        produce_and_fail()
    assert client.calls == ["begin", "topic", "abort"]
    with producer.transaction():
        pass
    assert client.calls[3:] == ["begin", "commit"]


def test_transaction_commit_fails_rolls_back_and_raises(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 3)
    with pytest.raises(KafkaException, match="not taken all"), producer.transaction():
        pass
    producer.close()
    assert client.calls == ["begin", "abort"]


class Apart:
    """A client's producer that reports overlaps with others made with the same list."""

    def __init__(self, is_open: list[object], overlaps: list[int]) -> None:
        self._is_open, self._overlaps = is_open, overlaps

    def init_transactions(self, seconds: float) -> None: ...

    def begin_transaction(self) -> None:
        self._is_open.append(self)
        self._overlaps.append(len(self._is_open))

    def flush(self, seconds: float) -> int:
        time.sleep(0.001)
        return 0

    def commit_transaction(self, seconds: float) -> None:
        self._is_open.remove(self)

    def abort_transaction(self, seconds: float) -> None:
        if self in self._is_open:
            self._is_open.remove(self)


def most_at_once(monkeypatch: pytest.MonkeyPatch, *, in_turn: bool) -> int:
    is_open: list[object] = []
    overlaps: list[int] = []
    monkeypatch.setattr(transactions, "Producer", lambda config: Apart(is_open, overlaps))
    together = threading.Barrier(4)

    def lane(number: int) -> None:
        producer = FencedProducer({}, in_turn=in_turn)
        together.wait()
        for count in range(20):
            producer.begin()
            if (number + count) % 5 == 0:
                # what failed is given up
                producer.close()
            else:
                producer.commit()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lane, range(4)))
    assert len(overlaps) == 80
    return max(overlaps)


def test_begin_in_turn_transactions_do_not_overlap(monkeypatch):
    assert most_at_once(monkeypatch, in_turn=True) == 1
    assert most_at_once(monkeypatch, in_turn=False) > 1


def test_begin_in_turn_times_out_while_another_is_open(monkeypatch):
    monkeypatch.setattr(transactions, "END_SECONDS", 0.01)
    monkeypatch.setattr(transactions, "Producer", lambda config: Apart([], []))
    first, second = FencedProducer({}, in_turn=True), FencedProducer({}, in_turn=True)
    first.begin()
    with pytest.raises(KafkaException, match="did not end"):
        second.begin()
    first.close()
    second.begin()
    second.commit()


def test_transaction_of_many_bytes_is_one_request_for_a_partition(
    bootstrap_servers: str, make_topic: TopicMaker
) -> None:
    topic = make_topic("large", max_message_bytes=str(MIN_BATCH_BYTES))
    requests: list[int] = []

    def count(statistics: str) -> None:
        brokers = orjson.loads(statistics)["brokers"].values()
        requests.append(sum(broker["req"].get("Produce", 0) for broker in brokers))

    settings = Settings(bootstrap_servers=bootstrap_servers, app_id=topic)
    own = {"statistics.interval.ms": 50, "stats_cb": count}
    producer = FencedProducer(transactional_config(settings, "0") | own)
    with producer.transaction() as transaction:
        for _ in range(1000):
            transaction.produce(topic, os.urandom(5000), partition=0)
        transaction.commit()
    wait_for(lambda: producer._producer.poll(0.1) >= 0 and len(requests) >= 3, 30, "statistics of the client")

    # in requests of the client's default size they would be five, between which it polls without a pause
    assert max(requests) == 1
