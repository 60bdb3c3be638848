"""The newest dead letters, with their reasons: the tails of both dead-letter topics."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import orjson
from confluent_kafka import Message

from streams.dead_letters import split_dead_letter_headers
from streams.following import Follower
from streams.headers import headers_of
from streams.kafka import reader_config
from streams.settings import Settings

KEPT = 100
TAIL = 300
"""Offsets from the end that are read at start: letters and the markers of their transactions."""

PREVIEW_CHARACTERS = 400


class DeadLetters:
    """Follows both dead-letter topics and keeps what a page shows of their newest messages.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        config = reader_config(settings)
        self._followers = [
            Follower(config, topic, 1, self._read, tail=TAIL)
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
        """The newest letters first."""
        with self._lock:
            return sorted(self._kept, key=lambda letter: letter["at"], reverse=True)

    def _read(self, message: Message) -> None:
        letter = describe(message)
        with self._lock:
            self._kept.append(letter)


def describe(message: Message) -> dict[str, Any]:
    """What a page shows of a dead letter; never more of its content than a preview."""
    _, told = split_dead_letter_headers(headers_of(message))
    value = message.value() or b""
    timestamp = told.get("timestamp", "")
    return {
        "topic": message.topic(),
        "offset": message.offset(),
        "at": int(timestamp) / 1000 if timestamp.isdecimal() else message.timestamp()[1] / 1000,
        "from": f"{told.get('topic', '?')}:{told.get('partition', '?')}:{told.get('offset', '?')}",
        "stage": told.get("stage", "?"),
        "reason": told.get("exception.message", "no reason is given"),
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
    found = fields.get("id") if isinstance(fields, dict) else None
    return found[:200] if isinstance(found, str) else None
