"""Limits that operators raise for one period: one message per counter on the catalogue's compacted topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from streams.messages.fields import decode_object
from streams.messages.internal_fields import count_field

TOP_UP_KEY = b"top-up/"
"""Beginning of the keys; the counter's name follows."""


@dataclass(frozen=True)
class TopUp:
    """The amount by which a counter's limit is raised in one period.

    It is the total of the period, so that a planner that reads it again, or takes over, adds nothing twice.

    Parameters
    ----------
    period : int
    amount : int
        In the counter's smallest unit: picodollars, queries or tokens.
    """

    period: int
    amount: int

    def encode(self) -> bytes:
        """Return the message's value."""
        return orjson.dumps(self)

    @classmethod
    def decode(cls, value: bytes) -> TopUp:
        """Decode a message's value.

        Raises
        ------
        RejectedMessage
            No program of the router wrote it.
        """
        fields = decode_object(value)
        return cls(count_field(fields, "period"), count_field(fields, "amount"))


def top_up_key(counter: str) -> bytes:
    """Return the key of a counter's top-up."""
    return TOP_UP_KEY + counter.encode()


def topped_up_counter(key: bytes | None) -> str | None:
    """Return the counter of a top-up's key; None for other keys.

    Examples
    --------
    >>> topped_up_counter(top_up_key("team=search"))
    'team=search'
    """
    return None if key is None or not key.startswith(TOP_UP_KEY) else key[len(TOP_UP_KEY) :].decode()


def amounts_in(top_ups: Mapping[str, TopUp], period: int) -> dict[str, int]:
    """Return the amounts that limits are raised by in a period, by name of the counter.

    Examples
    --------
    >>> amounts_in({"total": TopUp(3, 20), "few": TopUp(2, 5)}, 3)
    {'total': 20}
    """
    return {name: one.amount for name, one in top_ups.items() if one.period == period}
