"""Headers of messages, whatever bytes their names are made of.

Kafka keeps a header's name as bytes and looks at none of them. Both clients take names for UTF-8: aiokafka
fails on the whole fetch, confluent-kafka on the message's `headers()`. Any client in C or Go can send another
name, so here one that is not UTF-8 is text in which each wrong byte is a lone surrogate (PEP 383).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Message

from streams.messages import Refused

Header = tuple[str, bytes | None]

HEADERS_REFUSED = "headers: "
"""How the reason begins for which a query was refused because of its headers."""


def headers_of(message: Message) -> list[Header]:
    """A message's headers; none when a name among them is not UTF-8, for then the client gives none.

    Parameters
    ----------
    message : Message
        Out of a confluent-kafka consumer.
    """
    try:
        # not called as usual: the client gives a result *and* sets an error then, and only a call through C
        # looks for that. Else the error would come up anywhere later, and the result has holes in it.
        found: Any = operator.call(message.headers)
    except SystemError:
        return []
    return list(found or ())


def admit_headers(headers: Iterable[Header]) -> None:
    """Refuse a query whose headers could not travel on untouched.

    Raises
    ------
    Refused
        The name of one is not UTF-8.
    """
    for name, _ in headers:
        if not _is_utf8(name):
            raise Refused("decode", "headers", f"the name {_bytes(name)!r} is not UTF-8; send names as UTF-8")


def sendable(headers: Iterable[Header]) -> list[Header]:
    r"""The headers as a client can send them: wrong bytes in a name are written as ``\xff``.

    Examples
    --------
    >>> sendable([("caf\udce9", b"1"), ("trace", None)])
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
