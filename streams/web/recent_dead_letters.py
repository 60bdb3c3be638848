"""Recent dead letters for the page, from the tails of both dead-letter topics."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import orjson
from confluent_kafka import Message

from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.follower import Follower
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.headers import headers_of

MAX_LETTERS = 100
TAIL_OFFSETS = 300
"""Offsets from the end at which reading starts; they include markers of transactions."""

PREVIEW_CHARACTERS = 400


class RecentDeadLetters:
    """Follows both dead-letter topics, and keeps the newest letters.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._letters: deque[dict[str, Any]] = deque(maxlen=MAX_LETTERS)
        self._lock = threading.Lock()
        config = reader_config(settings)
        self._followers = [
            Follower(config, topic, 1, self._read, tail=TAIL_OFFSETS)
            for topic in (settings.topics.dlq, settings.topics.outcomes_dlq)
        ]

    def start(self) -> None:
        """Start following."""
        for follower in self._followers:
            follower.start()

    def stop(self) -> None:
        """Stop following."""
        for follower in self._followers:
            follower.stop()

    def newest(self) -> list[dict[str, Any]]:
        """Return the letters, the newest first."""
        with self._lock:
            return sorted(self._letters, key=lambda letter: letter["at"], reverse=True)

    def _read(self, message: Message) -> None:
        letter = describe(message)
        with self._lock:
            self._letters.append(letter)


def describe(message: Message) -> dict[str, Any]:
    """Return the fields of a dead letter that the page shows, with only a preview of its content."""
    _, error = split_dead_letter_headers(headers_of(message))
    value = message.value() or b""
    timestamp = error.get("timestamp", "")
    return {
        "topic": message.topic(),
        "offset": message.offset(),
        "at": int(timestamp) / 1000 if timestamp.isdecimal() else message.timestamp()[1] / 1000,
        "from": f"{error.get('topic', '?')}:{error.get('partition', '?')}:{error.get('offset', '?')}",
        "stage": error.get("stage", "?"),
        "reason": error.get("exception.message", "no reason is given"),
        "id": _id(value),
        "bytes": len(value),
        "preview": value[: 4 * PREVIEW_CHARACTERS].decode("utf-8", "replace")[:PREVIEW_CHARACTERS],
    }


def _id(value: bytes) -> str | None:
    if len(value) > 1 << 20:
        return None
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    identity = fields.get("id") if isinstance(fields, dict) else None
    return identity[:200] if isinstance(identity, str) else None
