"""Reading up to the ends of partitions: silent brokers, and leaders that lag behind their predecessor."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka import reading
from streams.kafka.reading import read_to_end


class Event:
    """A message of `topic[0]`, or the end of the partition."""

    def __init__(self, offset: int, end: bool = False) -> None:
        self._offset, self._error = offset, KafkaError(KafkaError._PARTITION_EOF) if end else None

    def topic(self) -> str:
        return "topic"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


class ScriptedConsumer:
    """A consumer that returns scripted fetches."""

    end = 0
    fetches: tuple[list[Event], ...] = ()

    def __init__(self, config: dict[str, object]) -> None:
        self._fetches = iter(self.fetches)

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, self.end

    def assign(self, places: list[object]) -> None: ...

    def consume(self, most: int, seconds: float) -> list[Event]:
        fetch = next(self._fetches, None)
        if fetch is None:
            time.sleep(seconds)
        return fetch or []

    def close(self) -> None: ...


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(end: int, *fetches: list[Event]) -> None:
        monkeypatch.setattr(ScriptedConsumer, "end", end)
        monkeypatch.setattr(ScriptedConsumer, "fetches", fetches)
        monkeypatch.setattr(reading, "Consumer", ScriptedConsumer)
        monkeypatch.setattr(reading, "SILENCE_SECONDS", 0.1)

    return install


def offsets() -> list[int]:
    return [message.offset() or 0 for message in read_to_end({}, "topic", 0)]


def test_read_to_end_silent_broker_times_out(script: Callable[..., None]):
    script(0)
    with pytest.raises(KafkaException, match=r"topic\[0\]: no message and no end"):
        offsets()


def test_read_to_end_new_leader_that_lags_is_read_to_the_true_end(script: Callable[..., None]):
    """A new leader's high watermark may lag, so that a fetch ends before committed messages."""
    script(4, [Event(0), Event(1), Event(2, end=True)], [], [Event(2), Event(3)], [Event(4, end=True)])
    assert offsets() == [0, 1, 2, 3]


def test_read_to_end_markers_of_transactions_after_the_last_message(script: Callable[..., None]):
    script(3, [Event(0), Event(1)], [Event(3, end=True)])
    assert offsets() == [0, 1]


def test_read_to_end_messages_that_arrive_while_reading_are_yielded(script: Callable[..., None]):
    script(1, [Event(0), Event(1), Event(2, end=True)])
    assert offsets() == [0, 1]
