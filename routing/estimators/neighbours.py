"""Estimates from the nearest neighbours in the history: the paper's, and better weights and costs."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from routing.estimators.base import Estimates, FloatArray, QueryBatch
from routing.history import EmbeddedHistory
from routing.index import NeighbourIndex, Rows, Similarities

LENGTH_OFFSET = 20
"""Characters added to a prompt's length: what a chat template adds, and no division by zero."""

LEAST_COST = 1e-12
"""USD; an estimate is at least one picodollar, so that nothing is free."""


class Neighbours:
    """Mean quality and cost of a query's k nearest neighbours by cosine (PORT, arXiv 2509.02718, section 3).

    Parameters
    ----------
    history : EmbeddedHistory
        H answered queries.
    k : int
        Neighbours, 1 to H.
    weights : {"uniform", "similarity"}
        All alike, or exp(temperature (s - s_max)) of the similarity s.
    temperature : float
        Of the similarity weights.
    cost : {"mean", "per-length"}
        Mean cost of the neighbours, or their mean of cost / (characters + 20), times that of the query.
    index : {"exact", "hnsw"} or NeighbourIndex
        How they are found.
    threads : int
        Threads of one search.
    """

    def __init__(
        self,
        history: EmbeddedHistory,
        k: int = 5,
        weights: Literal["uniform", "similarity"] = "uniform",
        temperature: float = 10.0,
        cost: Literal["mean", "per-length"] = "mean",
        index: Literal["exact", "hnsw"] | NeighbourIndex = "exact",
        threads: int = 1,
    ) -> None:
        if not 1 <= k <= len(history):
            raise ValueError(f"k: {k} must be 1 to {len(history)}, the rows of the history")
        if weights not in ("uniform", "similarity"):
            raise ValueError(f"weights: {weights!r} is neither 'uniform' nor 'similarity'")
        if cost not in ("mean", "per-length"):
            raise ValueError(f"cost: {cost!r} is neither 'mean' nor 'per-length'")
        self.models = history.models
        self.k = k
        self.weights = weights
        self.temperature = temperature
        self.cost = cost
        self._index = (
            index if isinstance(index, NeighbourIndex) else NeighbourIndex(history.embeddings, index, threads)
        )
        if len(self._index) != len(history):
            raise ValueError(f"index: {len(self._index)} rows for a history of {len(history)}; build it anew")
        self._lengths = _lengths(history.history.prompts)
        costs = history.history.cost
        if cost == "per-length":
            costs = costs / self._lengths[:, None]
        # quality and cost side by side, so that one pass over the neighbours' rows gives both
        self._table = np.ascontiguousarray(np.hstack([history.history.quality, costs]))

    def neighbours(self, batch: QueryBatch) -> tuple[Similarities, Rows]:
        """The neighbours themselves: similarity and row in the history, each [n, k], nearest first."""
        return self._index.search(batch.embeddings, self.k)

    def estimate(self, batch: QueryBatch) -> Estimates:
        """Quality and cost [n, M] of new queries."""
        similarity, rows = self.neighbours(batch)
        lengths = _lengths(batch.prompts) if self.cost == "per-length" else None
        return self._estimates(similarity, rows, lengths)

    def leave_one_out(self) -> Estimates:
        """Quality and cost [H, M] of the history's own rows, each from its neighbours but itself."""
        similarity, rows = self._index.search_own(self.k)
        return self._estimates(similarity, rows, self._lengths if self.cost == "per-length" else None)

    def _estimates(self, similarity: Similarities, rows: Rows, lengths: FloatArray | None) -> Estimates:
        n, k = rows.shape
        if self.weights == "uniform":
            # in row order, so that the sum does not depend on how the search ordered equal similarities
            rows = np.sort(rows, axis=1)
            weight, total = np.ones(n * k), np.full((n, 1), float(k))
        else:
            near = similarity.astype(np.float64)
            near = np.exp(self.temperature * (near - near[:, :1]))
            weight, total = near.ravel(), near.sum(axis=1, keepdims=True)
        pick = csr_array((weight, rows.ravel(), np.arange(0, n * k + 1, k)), shape=(n, len(self._table)))
        mean = (pick @ self._table) / total
        models = len(self.models)
        cost = mean[:, models:]
        if lengths is not None:
            cost = cost * lengths[:, None]
        return Estimates(np.clip(mean[:, :models], 0.0, 1.0), np.maximum(cost, LEAST_COST))


def _lengths(prompts: object) -> NDArray[np.float64]:
    texts: list[str] = prompts  # type: ignore[assignment]
    return np.fromiter(map(len, texts), dtype=np.float64, count=len(texts)) + LENGTH_OFFSET
