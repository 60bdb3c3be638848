"""Dead letters: a rejected message unchanged, with the reason in its headers."""

from __future__ import annotations

from collections.abc import Sequence

from streams.messages.headers import Header, Headers, escape_invalid_names
from streams.messages.rejection import (
    RejectedMessage,
)

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
EXCEPTION_CLASS = "Refused"
"""Value of the header `exception.class.name`. Consumers may filter by it, so it never changes."""


def dead_letter_headers(
    headers: Sequence[Header] | None,
    rejected: RejectedMessage,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
) -> Headers:
    """Return the headers of a dead letter: the message's own, then seven about the rejection.

    Key, value and headers of the message are kept byte for byte, except for header names that are not UTF-8
    (`streams.messages.headers.escape_invalid_names`).

    Parameters
    ----------
    headers : sequence of (str, bytes) or None
        Headers of the rejected message.
    rejected : RejectedMessage
    topic, partition, offset
        Position of the rejected message.
    timestamp_ms : int
        Time of the rejection, in milliseconds since 1970.
    """
    values = (topic, partition, offset, rejected.stage, EXCEPTION_CLASS, str(rejected), timestamp_ms)
    added = [
        (ERROR_HEADER + name, str(content).encode("utf-8", "replace"))
        for name, content in zip(ERROR_HEADERS, values, strict=True)
    ]
    return [*escape_invalid_names(headers or ()), *added]


def split_dead_letter_headers(
    headers: Sequence[Header] | None,
) -> tuple[Headers, dict[str, str]]:
    """Split a dead letter's headers into the message's own and those about the rejection.

    Returns
    -------
    original : list of (str, bytes)
    errors : dict
        Values by the names in `ERROR_HEADERS`; empty if the message is not a dead letter.
    """
    original = list(headers or ())
    count = len(ERROR_HEADERS)
    if [name for name, _ in original[-count:]] != [ERROR_HEADER + name for name in ERROR_HEADERS]:
        return original, {}
    errors = {
        name.removeprefix(ERROR_HEADER): (content or b"").decode() for name, content in original[-count:]
    }
    return original[:-count], errors
