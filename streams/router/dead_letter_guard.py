"""Guard against bad deploys: stop routing when too many of the last queries became dead letters."""

from __future__ import annotations

import threading
from collections import deque

WINDOW_QUERIES = 1_000
"""Queries over which the share of dead letters is taken, at least."""


class DeadLetterGuard:
    """Share of dead letters among a worker's last queries; safe to use from many threads.

    Parameters
    ----------
    limit : float
        Share of dead letters from which routing has to stop; 0: never.
    window : int
        Number of queries over which the share is taken, at least.

    Examples
    --------
    >>> guard = DeadLetterGuard(0.5, window=4)
    >>> [guard.observe(queries=2, dead=1), guard.observe(queries=2, dead=1)]
    [False, True]
    """

    def __init__(self, limit: float, window: int = WINDOW_QUERIES) -> None:
        self._limit, self._window = limit, window
        self._batches: deque[tuple[int, int]] = deque()
        self._queries = self._dead = 0
        self._lock = threading.Lock()

    def observe(self, queries: int, dead: int) -> bool:
        """Add a committed batch; return whether routing has to stop.

        Parameters
        ----------
        queries : int
            Queries of the batch, dead letters included.
        dead : int
            Those that became dead letters.
        """
        with self._lock:
            self._batches.append((queries, dead))
            self._queries += queries
            self._dead += dead
            while self._queries - self._batches[0][0] >= self._window:
                old_queries, old_dead = self._batches.popleft()
                self._queries -= old_queries
                self._dead -= old_dead
            return 0 < self._limit * self._queries <= self._dead and self._queries >= self._window

    @property
    def reason(self) -> str:
        """Why routing stops, and the fix."""
        return (
            f"{self._dead} of the last {self._queries} queries became dead letters, and PORT_DLQ_LIMIT is "
            f"{self._limit:g}: read their reasons with `dlq list`, correct the deployment or the producer, "
            "restart the workers, and replay the dead letters"
        )
