"""Asking where a partition begins and ends while its leader changes."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka import offsets
from streams.kafka.offsets import watermarks

PLACE = TopicPartition("topic", 0)


class AnsweringConsumer:
    """A consumer with these answers, one per request; it repeats the last one."""

    def __init__(self, *responses: int | tuple[int, int]) -> None:
        self._responses = list(responses)

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        response = self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]
        if isinstance(response, int):
            raise KafkaException(KafkaError(response))
        return response


def ask(*responses: Any) -> tuple[int, int]:
    return watermarks(AnsweringConsumer(*responses), PLACE)  # type: ignore[arg-type]


def test_watermarks_temporary_error_is_retried():
    moving = KafkaError.NOT_LEADER_FOR_PARTITION
    assert ask(moving, KafkaError.LEADER_NOT_AVAILABLE, moving, (3, 9)) == (3, 9)


def test_watermarks_permanent_error_is_raised_at_once():
    with pytest.raises(KafkaException, match="authorization"):
        ask(KafkaError.TOPIC_AUTHORIZATION_FAILED, (3, 9))


def test_watermarks_partition_without_leader_times_out(monkeypatch):
    monkeypatch.setattr(offsets, "PASSING_SECONDS", 0.15)
    with pytest.raises(KafkaException, match="Not leader"):
        ask(KafkaError.NOT_LEADER_FOR_PARTITION)
