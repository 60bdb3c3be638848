"""Log lines about unknown fields of queries that resemble known ones, once for each name."""

from __future__ import annotations

import structlog

from streams.messages.query import Query
from streams.messages.query_limits import similar_fields

log = structlog.get_logger(__name__)

MAX_NOTED_FIELDS = 100
MAX_SHAPES = 1000
"""Combinations of fields that are not looked at again. Most streams have a few."""


class FieldNotes:
    """The unknown fields that a worker has logged."""

    def __init__(self) -> None:
        self._noted: set[str] = set()
        self._shapes: set[tuple[str, ...]] = set()

    def note(self, query: Query) -> None:
        """Log unknown fields of a query that resemble a known one, unless they were logged before."""
        if (shape := tuple(query.fields)) in self._shapes:
            return
        if len(self._shapes) < MAX_SHAPES:
            self._shapes.add(shape)
        for name, meant in similar_fields(query.fields):
            if name not in self._noted and len(self._noted) < MAX_NOTED_FIELDS:
                self._noted.add(name)
                log.warning("field_has_no_effect", field=name, similar_to=meant, id=query.id)
