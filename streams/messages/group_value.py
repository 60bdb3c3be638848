"""Values of a query's metadata and headers, by which budgets are grouped and catalogues allow LLMs."""

from __future__ import annotations

from collections.abc import Iterable

from streams.messages.headers import Header
from streams.messages.query import Query

METADATA, HEADER = "metadata.", "header:"
"""Prefixes of a field's name."""


def field_value(query: Query, headers: Iterable[Header] | None, field: str) -> object:
    """Return the value of `metadata.NAME` or `header:NAME` of a query; None if it has none.

    Parameters
    ----------
    query : Query
    headers : iterable of (str, bytes), optional
        The record's headers; the last of a name counts.
    field : str

    Examples
    --------
    >>> from streams.messages.query import decode_query
    >>> query = decode_query(b'{"id": "a", "prompt": "b", "metadata": {"team": "search"}}', None)
    >>> field_value(query, [], "metadata.team"), field_value(query, [("tenant", b"x")], "header:tenant")
    ('search', 'x')
    """
    if field.startswith(METADATA):
        metadata = query.fields.get("metadata")
        return metadata.get(field.removeprefix(METADATA)) if isinstance(metadata, dict) else None
    name, header_value = field.removeprefix(HEADER), None
    for header, value in headers or ():
        if header == name:
            header_value = value
    try:
        return None if header_value is None else header_value.decode()
    except UnicodeDecodeError:
        return None
