"""Complete reading without Kafka: ends that a broker reports too early, and transactions that stay open."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka import complete_reading
from streams.kafka.complete_reading import read_completely


class Entry:
    """A message, or the report of an end."""

    def __init__(self, offset: int, value: bytes | None = None, error: int | None = None) -> None:
        self._offset, self._value = offset, value
        self._error = None if error is None else KafkaError(error)

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def error(self) -> KafkaError | None:
        return self._error


def end(offset: int) -> Entry:
    return Entry(offset, error=KafkaError._PARTITION_EOF)


class ScriptedConsumer:
    """A consumer that returns the entries of a script, then nothing."""

    script: Iterator[Entry]

    def __init__(self, config: dict[str, Any]) -> None: ...

    def assign(self, places: list[TopicPartition]) -> None: ...

    def poll(self, seconds: float) -> Entry | None:
        return next(self.script, None)

    def consume(self, most: int, seconds: float) -> list[Entry]:
        return []

    def close(self) -> None: ...


def read(monkeypatch: pytest.MonkeyPatch, script: list[Entry], until: int, **options: Any) -> list[bytes]:
    monkeypatch.setattr(ScriptedConsumer, "script", iter(script), raising=False)
    monkeypatch.setattr(complete_reading, "Consumer", ScriptedConsumer)
    messages = read_completely({}, TopicPartition("ledger", 0, 0), until, **options)
    return [message.value() or b"" for message in messages]


def test_read_goes_on_after_an_end_that_a_new_leader_reports_too_early(monkeypatch):
    script = [Entry(0, b"876"), end(1), Entry(1, b"890"), end(3)]
    assert read(monkeypatch, script, 3) == [b"876", b"890"]


def test_read_ends_at_markers_that_are_no_messages(monkeypatch):
    assert read(monkeypatch, [Entry(0, b"a"), end(2), Entry(5, b"beyond")], 2) == [b"a"]


def test_read_of_an_empty_partition_opens_no_consumer(monkeypatch):
    assert read(monkeypatch, [], 0) == []


def test_read_goes_on_until_the_awaited_message(monkeypatch):
    script = [Entry(0, b"old"), end(1), Entry(1, b"new"), Entry(2, b"later")]
    assert read(monkeypatch, script, 1, awaited=lambda message: message.value() == b"new") == [b"old", b"new"]


def test_read_error_that_passes_is_ignored_and_others_are_raised(monkeypatch):
    passing = Entry(0, error=KafkaError._ALL_BROKERS_DOWN)
    assert read(monkeypatch, [passing, Entry(0, b"a")], 1) == [b"a"]
    with pytest.raises(KafkaException, match="AUTHORIZATION"):
        read(monkeypatch, [Entry(0, error=KafkaError.TOPIC_AUTHORIZATION_FAILED)], 1)


def test_read_behind_an_open_transaction_reports_it_once_then_times_out(monkeypatch):
    monkeypatch.setattr(complete_reading, "BLOCKED_SECONDS", 0.0)
    monkeypatch.setattr(complete_reading, "GIVE_UP_SECONDS", 0.01)
    blocked: list[int] = []
    with pytest.raises(KafkaException, match=r"ledger\[0\]: read to 1, but not to offset 2"):
        read(monkeypatch, [Entry(0, b"a"), end(1)], 2, on_blocked=lambda: blocked.append(1))
    assert blocked == [1]
    with pytest.raises(KafkaException, match="the record of the last transaction"):
        read(monkeypatch, [Entry(0, b"a"), end(1)], 1, awaited=lambda message: False)
