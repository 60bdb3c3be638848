"""Asking where a partition begins and ends while its leader changes."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams import leaders
from streams.leaders import watermarks

PLACE = TopicPartition("topic", 0)


class Asked:
    """A consumer that says these things, one a question; the last for ever."""

    def __init__(self, *said: int | tuple[int, int]) -> None:
        self._said = list(said)

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        said = self._said.pop(0) if len(self._said) > 1 else self._said[0]
        if isinstance(said, int):
            raise KafkaException(KafkaError(said))
        return said


def ask(*said: Any) -> tuple[int, int]:
    return watermarks(Asked(*said), PLACE)  # type: ignore[arg-type]


def test_a_change_of_leaders_is_waited_out():
    moving = KafkaError.NOT_LEADER_FOR_PARTITION
    assert ask(moving, KafkaError.LEADER_NOT_AVAILABLE, moving, (3, 9)) == (3, 9)


def test_what_waiting_does_not_mend_is_told_at_once():
    with pytest.raises(KafkaException, match="authorization"):
        ask(KafkaError.TOPIC_AUTHORIZATION_FAILED, (3, 9))


def test_a_partition_without_leader_is_not_asked_for_ever(monkeypatch):
    monkeypatch.setattr(leaders, "PASSING_SECONDS", 0.15)
    with pytest.raises(KafkaException, match="Not leader"):
        ask(KafkaError.NOT_LEADER_FOR_PARTITION)
