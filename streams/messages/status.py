"""Messages of the status topic: a worker's heartbeat, and a point of the timeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streams.messages.fields import decode_object
from streams.messages.internal_fields import invalid_field, object_field, text_field, time_field

HEARTBEAT, POINT = "worker", "point"
"""Kinds of messages: the part of the key before the first dot."""


def decode_heartbeat(value: bytes | None) -> dict[str, Any]:
    """Return a heartbeat; it may come from another version of the router, so it may lack other fields.

    Raises
    ------
    RejectedMessage
        It lacks a field that every version writes, or one of them is invalid.

    Examples
    --------
    >>> decode_heartbeat(b'{"worker": "a-1", "at": 7.5, "started_at": 1.0, "seconds": {}}')["at"]
    7.5
    """
    fields = decode_object(value)
    text_field(fields, "worker")
    for name in ("at", "started_at"):
        time_field(fields, name)
    if not all(map(_is_sparse, object_field(fields, "seconds").values())):
        raise invalid_field(fields, "seconds", "pairs of bucket and count, by stage")
    return fields


def decode_point(value: bytes | None) -> dict[str, Any]:
    """Return a point of the timeline; it may come from another version, so it may lack other fields.

    Raises
    ------
    RejectedMessage
        It has no valid time.
    """
    fields = decode_object(value)
    time_field(fields, "at")
    return fields


STATUS_DECODERS: dict[str, Callable[[bytes | None], dict[str, Any]]] = {
    HEARTBEAT: decode_heartbeat,
    POINT: decode_point,
}
"""Decoder of each kind of message."""


def _is_sparse(pairs: object) -> bool:
    """Return whether a value is a list of pairs of bucket and count."""
    return isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)
        for pair in pairs
    )
