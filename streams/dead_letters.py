"""Dead letters: a refused message as it was, and in its headers what was wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from streams.headers import sendable
from streams.messages import Refused

ERROR_HEADER = "__router.errors."
ERROR_HEADERS = (
    "topic",
    "partition",
    "offset",
    "stage",
    "exception.class.name",
    "exception.message",
    "timestamp",
)
Headers = Sequence[tuple[str, bytes | None]]


def dead_letter_headers(
    headers: Headers | None, refused: Refused, topic: str, partition: int, offset: int, timestamp_ms: int
) -> list[tuple[str, bytes | None]]:
    """Headers of a dead letter: the message's own, then seven that say what was wrong with it.

    Key and value of a dead letter are the message's own, byte for byte, and so are its headers but for names
    that are not UTF-8 (`streams.headers.sendable`).

    Parameters
    ----------
    headers : sequence of (str, bytes) or None
        The refused message's.
    refused : Refused
    topic, partition, offset
        Where the message was.
    timestamp_ms : int
        When it was refused, in milliseconds since 1970.
    """
    told = (topic, partition, offset, refused.stage, type(refused).__name__, str(refused), timestamp_ms)
    added = [
        (ERROR_HEADER + name, str(content).encode("utf-8", "replace"))
        for name, content in zip(ERROR_HEADERS, told, strict=True)
    ]
    return [*sendable(headers or ()), *added]


def split_dead_letter_headers(
    headers: Headers | None,
) -> tuple[list[tuple[str, bytes | None]], dict[str, str]]:
    """The headers that a dead letter had before it was refused, and what was said about it.

    Returns
    -------
    original : list of (str, bytes)
    errors : dict
        By `ERROR_HEADERS`; empty when the message is no dead letter.
    """
    found = list(headers or ())
    count = len(ERROR_HEADERS)
    if [name for name, _ in found[-count:]] != [ERROR_HEADER + name for name in ERROR_HEADERS]:
        return found, {}
    told = {name.removeprefix(ERROR_HEADER): (content or b"").decode() for name, content in found[-count:]}
    return found[:-count], told
