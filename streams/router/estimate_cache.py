"""A worker's cache of estimates: a query that comes again is neither embedded nor estimated."""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import blake2b

from routing.arrays import FloatArray
from streams.messages.query import Query

Row = tuple[FloatArray, FloatArray, int]
"""Quality and cost of a query by LLM, each [M], and the number of its cluster."""


class EstimateCache:
    """Estimates of the queries that were used last, by a digest of prompt and embedding.

    The lanes of a worker share it, so it is safe to use from several threads. Estimates depend on nothing but
    the prompt and the embedding that the message carries.

    Parameters
    ----------
    entries : int
        Maximum number of queries; 0 keeps none.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, query: Query) -> tuple[bytes, Row | None]:
        """Return the key of a query, and its estimates if they are known."""
        if not self._entries:
            return b"", None
        kind = b"prompt" if query.embedding is None else b"embedded"
        digest = blake2b(query.embedding or b"", digest_size=16, person=kind)
        digest.update(query.prompt.encode("utf-8", "surrogatepass"))
        key = digest.digest()
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                self.misses += 1
            else:
                self.hits += 1
                self._rows.move_to_end(key)
        return key, row

    def put(self, key: bytes, row: Row) -> None:
        """Keep the estimates of a query, and drop those that were used longest ago.

        Parameters
        ----------
        key : bytes
            From `get`.
        row : Row
            Its arrays are copied: views would keep their whole batch.
        """
        if not self._entries:
            return
        quality, cost, cluster = row
        copied = quality.copy(), cost.copy(), cluster
        with self._lock:
            self._rows[key] = copied
            while len(self._rows) > self._entries:
                self._rows.popitem(last=False)
