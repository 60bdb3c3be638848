"""What a fenced producer makes of the client's ways to say that a transaction has failed."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams import transactions
from streams.transactions import FencedProducer

FENCED = KafkaException(KafkaError(KafkaError._FENCED, "an old epoch"))


class Client:
    """A client's producer whose flush does what the test says; commits are counted."""

    def __init__(self, flush: Callable[[], int]) -> None:
        self._flush, self.commits = flush, 0

    def init_transactions(self, seconds: float) -> None: ...

    def flush(self, seconds: float) -> int:
        return self._flush()

    def commit_transaction(self, seconds: float) -> None:
        self.commits += 1


def produced(monkeypatch: pytest.MonkeyPatch, flush: Callable[[], int]) -> tuple[FencedProducer, Client]:
    client = Client(flush)
    monkeypatch.setattr(transactions, "Producer", lambda config: client)
    return FencedProducer({}), client


def broken() -> int:
    # as confluent-kafka has it when the fatal error comes while a delivery is told
    raise SystemError("<method 'offset'> returned a result with an exception set") from FENCED


def test_a_fatal_error_that_comes_while_a_delivery_is_told_is_kafkas(monkeypatch):
    producer, client = produced(monkeypatch, broken)
    with pytest.raises(KafkaException, match="old epoch"):
        producer.commit()
    assert client.commits == 0


def test_another_fault_of_the_client_is_not_taken_for_kafkas(monkeypatch):
    def bad() -> int:
        raise SystemError("bad internal call")

    producer, client = produced(monkeypatch, bad)
    with pytest.raises(SystemError, match="bad internal call"):
        producer.commit()
    assert client.commits == 0


def test_nothing_is_committed_while_messages_are_left(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 3)
    with pytest.raises(KafkaException, match="not taken all"):
        producer.commit()
    assert client.commits == 0


def test_a_flushed_transaction_is_committed(monkeypatch):
    producer, client = produced(monkeypatch, lambda: 0)
    producer.commit()
    assert client.commits == 1
