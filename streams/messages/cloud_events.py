"""CloudEvents in Kafka's binary mode: attributes of an event in headers, its data in the value.

A query with the header `ce_specversion` is a CloudEvent. The messages that follow from it are events as well,
with attributes of their own. Other queries and their messages get no such headers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from streams.messages.headers import Header, Headers

PREFIX = "ce_"
SPEC_VERSION, CONTENT_TYPE = "ce_specversion", "content-type"
OWN = frozenset({SPEC_VERSION, "ce_id", "ce_source", "ce_type", "ce_time", "ce_dataschema", CONTENT_TYPE})
"""Headers that each event has of its own; the others, such as the subject and extensions, are passed on."""

VERSION = b"1.0"
JSON = b"application/json"


class EventType(StrEnum):
    """Attribute `type` of the events that router and fleets emit."""

    ROUTED = "port.query.routed"
    UNSERVED = "port.query.unserved"
    ANSWERED = "port.query.answered"


def event_headers(
    headers: Headers | None, kind: EventType, source: str, position: tuple[int, int, int], moment: float
) -> Headers | None:
    """Return the headers of a message that follows from a query.

    Parameters
    ----------
    headers : list of (str, bytes) or None
        Headers of the query.
    kind : EventType
    source : str
        Attribute `source`.
    position : (int, int, int)
        Partition, offset and attempt of the decision; with the type they are the attribute `id`.
    moment : float
        Seconds since 1970.

    Returns
    -------
    list of (str, bytes) or None
        The headers unchanged if the query is no CloudEvent.

    Examples
    --------
    >>> query = [("ce_specversion", b"1.0"), ("ce_type", b"my.query"), ("ce_subject", b"a"), ("trace", b"t")]
    >>> result = event_headers(query, EventType.ROUTED, "/port-router", (0, 7, 1), 0.0)
    >>> [name for name, _ in result]
    ['ce_subject', 'trace', 'ce_specversion', 'ce_id', 'ce_source', 'ce_type', 'ce_time', 'content-type']
    >>> dict(result)["ce_id"]
    b'port.query.routed-0-7-1'
    """
    if not headers or not any(name == SPEC_VERSION for name, _ in headers):
        return headers
    other_headers: list[Header] = [header for header in headers if header[0].lower() not in OWN]
    identity = "-".join(map(str, (kind, *position)))
    time = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [
        *other_headers,
        (SPEC_VERSION, VERSION),
        ("ce_id", identity.encode()),
        ("ce_source", source.encode()),
        ("ce_type", kind.encode()),
        ("ce_time", time.encode()),
        (CONTENT_TYPE, JSON),
    ]


def event_source(topic_prefix: str) -> str:
    """Return the attribute `source` of a router's events.

    Examples
    --------
    >>> event_source("eu.")
    '/port-router/eu'
    """
    return "/".join(["/port-router", *filter(None, [topic_prefix.strip(".")])])
