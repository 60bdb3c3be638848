"""Sessions: the LLM that a session went to last, and what the others pay because they cached no context."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np

from routing.arrays import FloatArray
from routing.budgets.model import Model
from streams.messages.query import Query
from streams.messages.record import Record
from streams.router.batch import DecidedBatch

SESSION = "session"
"""Name of the field, and of the header, that names a query's session."""

MAX_SESSIONS = 100_000
"""Sessions that a lane remembers; the longest unused ones are forgotten."""

BYTES_PER_TOKEN = 4.0


class SessionMemory:
    """The last LLM of each session of one lane. It is lost when the lane moves: a cost, never an error.

    Parameters
    ----------
    max_sessions : int
    """

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max_sessions = max_sessions
        self._last: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._last)

    def switch_costs(
        self,
        queries: Sequence[Query],
        records: Sequence[Record],
        models: Sequence[str],
        catalogue: Mapping[str, Model],
    ) -> FloatArray | None:
        """Return what each LLM pays more because it has not cached the session's context, USD, [n, M].

        Parameters
        ----------
        queries : sequence of Query, length n
        records : sequence of Record, length n
        models : sequence of str, length M
        catalogue : mapping of str to Model
            By name. An LLM without a price of cached input has no switch cost.

        Returns
        -------
        ndarray or None
            None if no query belongs to a known session.
        """
        known = [self._last.get(session_of(q, r) or "") for q, r in zip(queries, records, strict=True)]
        if not any(known):
            return None
        tokens = np.array([len(query.prompt.encode()) / BYTES_PER_TOKEN for query in queries])
        costs = np.outer(tokens, [_discount(catalogue.get(name)) for name in models]) / 1e6
        for row, last in enumerate(known):
            if last is None:
                costs[row] = 0.0
            elif last in models:
                costs[row, models.index(last)] = 0.0
        return costs

    def remember(self, batch: DecidedBatch) -> None:
        """Remember the LLMs of the queries that were routed."""
        arrivals, choices = batch.arrivals, batch.decisions.choice.tolist()
        for query, record, choice in zip(arrivals.queries, arrivals.records, choices, strict=True):
            if choice >= 0 and (session := session_of(query, record)) is not None:
                self._last[session] = batch.plan.models[choice]
                self._last.move_to_end(session)
        while len(self._last) > self._max_sessions:
            self._last.popitem(last=False)


def session_of(query: Query, record: Record) -> str | None:
    """Return the session that a query names in its field, or in its header; None without one."""
    session = query.fields.get(SESSION)
    if isinstance(session, str) and session:
        return session
    for name, value in record.headers or ():
        if name == SESSION and value:
            return value.decode("utf-8", "replace")
    return None


def _discount(model: Model | None) -> float:
    """Return the USD per million tokens that cached input saves."""
    if model is None or model.input_price is None or model.cached_input_price is None:
        return 0.0
    return max(0.0, model.input_price - model.cached_input_price)
