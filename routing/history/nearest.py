"""Nearest neighbours by faiss: exact inner product or HNSW, with a tie rule that no batch's shape decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from routing.history.faiss_library import load_faiss

Rows = NDArray[np.int64]
Similarities = NDArray[np.float32]

TIE = 1e-6
"""Similarities so near to the k-th are ties: last bits in faiss and BLAS depend on the batch's shape."""

SPARE = 8
"""Neighbours searched beyond k to find the end of ties; more are searched if these are not enough."""

MEASURED_QUERIES = {True: 8, False: 2}
"""Batches by which `crossing` compares a matrix product with faiss' own loop."""

CROSSINGS = 2, 32
"""Beyond these no machine's way lies: at 256 queries the product is 10 times faster."""

HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 200, 50
"""M, efConstruction and ef of the paper's experiments."""


class NeighbourIndex:
    """The embeddings of a history, to be searched by cosine similarity.

    Parameters
    ----------
    embeddings : ndarray of float32, shape [H, d]
        Unit rows.
    kind : {"exact", "hnsw"}
        Exact inner product, or a graph (M = 32, efConstruction = 200: the paper's).
    threads : int
        Threads of one search.
    ef : int
        Of the graph's search: how many candidates it keeps. More of them find more of the true neighbours.
    """

    product_from: ClassVar[int] = 4
    """Queries in a batch from which a matrix product is taken and not faiss' own loop; one number for the
    process, as in faiss. `crossing` finds a machine's."""

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        kind: Literal["exact", "hnsw"] = "exact",
        threads: int = 1,
        ef: int = HNSW_SEARCH,
    ) -> None:
        faiss = load_faiss()

        vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
        self.kind = kind
        self.threads = threads
        self.ef = ef
        # One thread builds the graph, which depends on the order of its points.
        faiss.omp_set_num_threads(1)
        self._index: Any
        if kind == "exact":
            self._index = faiss.IndexFlatIP(vectors.shape[1])
        elif kind == "hnsw":
            self._index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efConstruction = HNSW_BUILD
        else:
            raise ValueError(f"kind: {kind!r} is neither 'exact' nor 'hnsw'")
        self._index.add(vectors)
        self._vectors = vectors

    @classmethod
    def read(cls, path: str | Path, kind: Literal["exact", "hnsw"], threads: int = 1) -> NeighbourIndex:
        """Read an index that `write` wrote."""
        faiss = load_faiss()

        index = cls.__new__(cls)
        index.kind, index.threads, index.ef = kind, threads, HNSW_SEARCH
        index._index = faiss.read_index(str(path))
        store = faiss.downcast_index(index._index.storage) if kind == "hnsw" else index._index
        index._vectors = store.reconstruct_n(0, store.ntotal)
        return index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[Similarities, Rows]:
        """Return the k nearest rows of every query.

        Rows whose similarity is within `TIE` of the k-th are ties, and the first in the history win.

        Parameters
        ----------
        queries : ndarray of float32, shape [n, d]
        k : int
            1 to H.

        Returns
        -------
        similarity : ndarray of float32, shape [n, k]
            Falling.
        rows : ndarray of int64, shape [n, k]

        Raises
        ------
        ValueError
            k is out of range, a query is not finite, or its length is not the history's.
        """
        if queries.ndim != 2 or queries.shape[1] != self._vectors.shape[1]:
            raise ValueError(
                f"embeddings: shape {queries.shape}, the history's have length {self._vectors.shape[1]}; "
                "embed queries by the model that embedded the history"
            )
        return self._search_resolving_ties(np.ascontiguousarray(queries, dtype=np.float32), k, None)

    def search_own(self, k: int, own: Rows | None = None) -> tuple[Similarities, Rows]:
        """Return the k nearest rows of rows of the history, without itself but with its duplicates.

        Parameters
        ----------
        k : int
            1 to H - 1.
        own : ndarray of int64, shape [n], optional
            The rows; all by default.

        Returns
        -------
        similarity, rows : as `search`.

        Raises
        ------
        ValueError
            k is out of range.
        """
        if own is None:
            return self._search_resolving_ties(self._vectors, k, np.arange(len(self), dtype=np.int64))
        return self._search_resolving_ties(self._vectors[own], k, own)

    def _search_resolving_ties(
        self, queries: NDArray[np.float32], k: int, own: Rows | None
    ) -> tuple[Similarities, Rows]:
        max_neighbours = len(self) - (own is not None)
        if not 1 <= k <= max_neighbours:
            raise ValueError(f"k: {k} must be 1 to {max_neighbours}, the rows that can be neighbours")
        width = min(k + SPARE, max_neighbours)
        similarity, rows = self._candidates(queries, width, own)
        if width == k:
            return similarity, rows
        best, best_rows = similarity[:, :k].copy(), rows[:, :k].copy()
        # A tie beyond the k-th is rare, so nearly all batches end here.
        open_ = np.flatnonzero(similarity[:, k] >= similarity[:, k - 1] - TIE)
        similarity, rows = similarity[open_], rows[open_]
        while len(open_):
            done = (similarity[:, -1] < similarity[:, k - 1] - TIE) | (width == max_neighbours)
            best[open_[done]], best_rows[open_[done]] = _first_of_ties(similarity[done], rows[done], k)
            open_ = open_[~done]
            if len(open_):
                width = min(4 * width, max_neighbours)
                open_own = None if own is None else own[open_]
                similarity, rows = self._candidates(queries[open_], width, open_own)
        return best, best_rows

    def _candidates(
        self, queries: NDArray[np.float32], width: int, own: Rows | None
    ) -> tuple[Similarities, Rows]:
        faiss = load_faiss()

        faiss.omp_set_num_threads(self.threads)
        faiss.cvar.distance_compute_blas_threshold = self.product_from * (
            queries.shape[1] if _threshold_is_size() else 1
        )
        wide = width + (own is not None)
        if self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=max(self.ef, wide))
            similarity, rows = self._index.search(queries, wide, params=parameters)
            # A graph may not reach k rows, especially among many duplicates.
            short = np.flatnonzero((rows < 0).any(axis=1))
            if len(short):
                similarity[short], rows[short] = faiss.downcast_index(self._index.storage).search(
                    queries[short], wide
                )
        else:
            similarity, rows = self._index.search(queries, wide)
        if (rows < 0).any():
            row = int(np.argmax((rows < 0).any(axis=1)))
            raise ValueError(f"embeddings: row {row} is not finite; embed the query again or refuse it")
        if own is None:
            return similarity, rows
        is_self = rows == own[:, None]
        is_self[~is_self.any(axis=1), -1] = True  # Too many duplicates hide the row itself: drop the last.
        return similarity[~is_self].reshape(-1, width), rows[~is_self].reshape(-1, width)

    def write(self, file: BinaryIO) -> None:
        """Write the index in faiss' format."""
        faiss = load_faiss()

        file.write(faiss.serialize_index(self._index).data)

    def holds(self, embeddings: NDArray[np.float32]) -> bool:
        """Return whether the index was made from these embeddings."""
        return np.array_equal(self._vectors, embeddings)


def crossing(embeddings: NDArray[np.float32], clock: Callable[[], float], rounds: int = 3) -> int:
    """Measure the batch size from which a matrix product is faster than faiss' own loop on this machine.

    The loop takes as long for each query, the product for a few about as long as for one: it was 3 on one
    machine and 8 on another.

    Parameters
    ----------
    embeddings : ndarray of float32, shape [H, d]
        Rows to search, at least `MEASURED_QUERIES`.
    clock : callable
        Seconds.
    rounds : int
        Number of measurements; the shortest counts.
    """
    faiss = load_faiss()

    index: Any = faiss.IndexFlatIP(embeddings.shape[1])
    index.add(np.ascontiguousarray(embeddings, dtype=np.float32))
    faiss.omp_set_num_threads(1)
    seconds = dict.fromkeys(MEASURED_QUERIES, math.inf)
    for product, count in rounds * tuple(MEASURED_QUERIES.items()):
        faiss.cvar.distance_compute_blas_threshold = 1 if product else 2**30
        began = clock()
        index.search(embeddings[:count], 1 + SPARE)
        seconds[product] = min(seconds[product], clock() - began)
    min_batch, max_batch = CROSSINGS
    return min(max_batch, max(min_batch, math.ceil(MEASURED_QUERIES[False] * seconds[True] / seconds[False])))


@cache
def _threshold_is_size() -> bool:
    """Return the unit of faiss' threshold: a number of queries, or of queries times dimensions.

    faiss has one threshold per process. Newer versions count queries times dimensions, and their default is
    so high that batches of 256 use the slow loop. Call this before the threshold is set.
    """
    faiss = load_faiss()

    return bool(faiss.cvar.distance_compute_blas_threshold > 1000)


def _first_of_ties(similarity: Similarities, rows: Rows, k: int) -> tuple[Similarities, Rows]:
    """Choose k of the candidates, [n, width]: all that are nearer than a tie, then the ties in row order."""
    kth = similarity[:, k - 1 : k]
    tie = np.abs(similarity - kth) <= TIE
    # Candidates nearer than every tie keep their position by the key -1; those beyond are last.
    key = np.where(tie, rows, np.where(similarity > kth, -1, np.iinfo(np.int64).max))
    chosen = np.argsort(key, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, chosen, 1), np.take_along_axis(rows, chosen, 1)
