"""The partition of a session's queries: one lane remembers the session's LLM."""

from __future__ import annotations

from zlib import crc32

import orjson


def session_partition(value: bytes, partitions: int) -> int | None:
    """Return the partition of a query's session; None if the query names no session.

    It is that of librdkafka's partitioner `consistent` for the session as the key, so that producers that key
    by session choose the same.

    Parameters
    ----------
    value : bytes
        The query's message.
    partitions : int
        Partitions of the topic of queries that have lanes.

    Examples
    --------
    >>> session_partition(b'{"id": "a", "prompt": "Why?", "session": "s"}', 1)
    0
    >>> session_partition(b'{"id": "a", "prompt": "Why?"}', 4) is None
    True
    """
    if b'"session"' not in value:
        return None
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None  # the router rejects it
    session = fields.get("session") if isinstance(fields, dict) else None
    return crc32(session.encode()) % partitions if isinstance(session, str) and session else None
