"""Headers of messages, including names that are not UTF-8.

Kafka stores a header's name as bytes and does not check them. Both Python clients expect UTF-8: aiokafka
fails on the whole fetch, confluent-kafka on the message's `headers()`. Clients in C or Go can send other
names. Here, a name that is not UTF-8 is a text in which each invalid byte is a lone surrogate (PEP 383).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Message

from streams.messages.rejection import RejectedMessage, RejectionReason

Header = tuple[str, bytes | None]
Headers = list[Header]
"""Headers in the order of the message; a name may occur more than once."""

HEADERS_REFUSED = "headers: "
"""First part of the message when a query is rejected for its headers."""


def headers_of(message: Message) -> Headers:
    """Return a message's headers; none if a name among them is not UTF-8, because the client gives none then.

    Parameters
    ----------
    message : Message
        From a confluent-kafka consumer.
    """
    return readable_headers(message) or []


def readable_headers(message: Message) -> list[Header] | None:
    """Return a message's headers; None if one of the names is not UTF-8."""
    try:
        # For such a name the client returns a result and sets an error. Only a call through C checks for
        # that: otherwise the error would surface later at any place, and the result has gaps.
        headers: Any = operator.call(message.headers)
    except SystemError:
        return None
    return list(headers or ())


def validate_headers(headers: Iterable[Header]) -> None:
    """Reject a query whose headers cannot be passed on unchanged.

    Raises
    ------
    RejectedMessage
        A name is not UTF-8.
    """
    for name, _ in headers:
        if not _is_utf8(name):
            raise RejectedMessage(RejectionReason.HEADER_NAME_NOT_UTF8, "headers", name=repr(_bytes(name)))


def escape_invalid_names(headers: Iterable[Header]) -> Headers:
    r"""Return headers that a client can send: invalid bytes in a name are escaped, as ``\xff``.

    Examples
    --------
    >>> escape_invalid_names([("caf\udce9", b"1"), ("trace", None)])
    [('caf\\xe9', b'1'), ('trace', None)]
    """
    return [
        (name if _is_utf8(name) else _bytes(name).decode("utf-8", "backslashreplace"), value)
        for name, value in headers
    ]


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\udc80" <= character <= "\udcff" for character in name)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
