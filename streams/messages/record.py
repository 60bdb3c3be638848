"""The interface of a record that a consumer returns."""

from __future__ import annotations

from typing import Any, Protocol


class Record(Protocol):
    """A record as aiokafka returns it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any
