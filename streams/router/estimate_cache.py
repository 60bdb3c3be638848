"""A worker's cache of estimates: a prompt that comes again is neither embedded nor estimated."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates
from streams.messages.query import Query

Key = tuple[int, int]
"""Hash and length of a prompt. The process keys its hashes, so that no client can make two prompts meet."""

Entry = tuple[bytes, int]
"""Quality and cost of a query by LLM, 2 M numbers of 64 bits, and the number of its cluster. Bytes, because a
row of an array would keep its whole batch, and the garbage collector does not look at them."""


class EstimateCache:
    """Estimates of the prompts that were used last.

    The lanes of a worker share it, so it is safe to use from several threads. Queries that carry an embedding
    are not kept: what they save is less than what looking them up costs all others.

    Parameters
    ----------
    entries : int
        Maximum number of prompts; 0 keeps none.
    """

    def __init__(self, entries: int) -> None:
        self._size = entries
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, queries: Sequence[Query]) -> tuple[list[Key | None], dict[int, Entry]]:
        """Return the keys of n queries, and the entries of those that are known, by their number."""
        if not self._size or all(query.embedding is not None for query in queries):
            return [], {}
        keys = [
            (hash(query.prompt), len(query.prompt)) if query.embedding is None else None for query in queries
        ]
        known: dict[int, Entry] = {}
        with self._lock:
            for number, key in enumerate(keys):
                if key is not None and (entry := self._entries.get(key)) is not None:
                    self._entries.move_to_end(key)
                    known[number] = entry
        self.hits += len(known)
        self.misses += len(keys) - keys.count(None) - len(known)
        return keys, known

    def put(
        self, keys: Sequence[Key | None], estimates: Estimates, cluster: IntArray, refused: Collection[int]
    ) -> None:
        """Keep the estimates of queries, and drop those that were used longest ago.

        Parameters
        ----------
        keys : sequence, length n
            From `find`; empty if nothing is kept.
        estimates : Estimates
            [n, M].
        cluster : ndarray of int64, shape [n]
        refused : collection of int
            Numbers of the queries that have no estimates.
        """
        if not keys:
            return
        packed = np.concatenate([estimates.quality, estimates.cost], axis=1, dtype=np.float64)
        raw, width = packed.tobytes(), packed.itemsize * packed.shape[1]
        with self._lock:
            for number, (key, cluster_number) in enumerate(zip(keys, cluster.tolist(), strict=True)):
                if key is not None and number not in refused:
                    self._entries[key] = raw[number * width : (number + 1) * width], cluster_number
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


def unpack(entries: Sequence[Entry]) -> tuple[FloatArray, FloatArray, list[int]]:
    """Return quality and cost, each [n, M], and the clusters of n entries."""
    packed = np.frombuffer(b"".join(row for row, _ in entries)).reshape(len(entries), -1)
    quality, cost = np.hsplit(packed, 2)
    return quality, cost, [cluster for _, cluster in entries]
