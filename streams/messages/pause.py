"""Pauses that operators set: one message per LLM on the catalogue's compacted topic."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from streams.messages.fields import decode_object
from streams.messages.internal_fields import time_field

PAUSE_KEY = b"pause/"
"""Beginning of the keys; the LLM's name follows."""


@dataclass(frozen=True)
class ManualPause:
    """A pause of one LLM by an operator.

    Parameters
    ----------
    since : float
        Seconds since the epoch.
    until : float or None
        Seconds since the epoch; None until the LLM is resumed. If equal to `since`, the LLM is resumed.
    """

    since: float
    until: float | None = None

    @property
    def resumes(self) -> bool:
        """True if the message ends a pause, also one of the circuit breaker."""
        return self.until == self.since

    def encode(self) -> bytes:
        """Return the message's value."""
        return orjson.dumps(self)

    @classmethod
    def decode(cls, value: bytes) -> ManualPause:
        """Decode a message's value.

        Raises
        ------
        RejectedMessage
            No program of the router wrote it.
        """
        fields = decode_object(value)
        since = time_field(fields, "since")
        endless = "until" in fields and fields["until"] is None
        return cls(since, None if endless else time_field(fields, "until"))


def pause_key(model: str) -> bytes:
    """Return the key of an LLM's pause."""
    return PAUSE_KEY + model.encode()


def paused_model(key: bytes | None) -> str | None:
    """Return the LLM of a pause's key; None for other keys.

    Examples
    --------
    >>> paused_model(pause_key("vendor/llm"))
    'vendor/llm'
    """
    return None if key is None or not key.startswith(PAUSE_KEY) else key[len(PAUSE_KEY) :].decode()
