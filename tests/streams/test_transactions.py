"""What a fenced producer makes of the client's ways to say that a transaction has failed."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams import reading, transactions
from streams.transactions import FencedProducer, read_to_end

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


class Apart:
    """A client's producer that tells of overlaps with others made with the same list."""

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


def test_transactions_in_turn_do_not_overlap(monkeypatch):
    assert most_at_once(monkeypatch, in_turn=True) == 1
    assert most_at_once(monkeypatch, in_turn=False) > 1


def test_a_turn_that_does_not_come_is_told(monkeypatch):
    monkeypatch.setattr(transactions, "END_SECONDS", 0.01)
    monkeypatch.setattr(transactions, "Producer", lambda config: Apart([], []))
    first, second = FencedProducer({}, in_turn=True), FencedProducer({}, in_turn=True)
    first.begin()
    with pytest.raises(KafkaException, match="did not end"):
        second.begin()
    first.close()
    second.begin()
    second.commit()


class Silent:
    """A consumer whose broker has died."""

    def __init__(self, config: dict[str, object]) -> None: ...

    def assign(self, places: list[object]) -> None: ...

    def consume(self, most: int, seconds: float) -> list[object]:
        time.sleep(seconds)
        return []

    def close(self) -> None: ...


def test_a_broker_that_says_nothing_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(transactions, "Consumer", Silent)
    monkeypatch.setattr(reading, "SILENCE_SECONDS", 0.1)
    with pytest.raises(KafkaException, match=r"topic\[0\]: no message and no end"):
        list(read_to_end({}, "topic", 0))
