"""Estimates from the nearest neighbours in the history: the paper's, and variants of weights and costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray
from routing.embedding.query_batch import QueryBatch
from routing.estimators.base import Estimates, FitEffort, OnStep
from routing.history.history import EmbeddedHistory
from routing.history.nearest import NeighbourIndex, Rows, Similarities

LENGTH_OFFSET = 20
"""Characters added to a prompt's length, as a chat template does; avoids division by zero."""

LEAST_COST = 1e-12
"""USD; the smallest estimate is one picodollar."""


@dataclass(frozen=True)
class NeighbourSettings:
    """Settings of the neighbours that a preset uses: uniform weights, mean cost, exact search.

    Parameters
    ----------
    k : int
        Neighbours; all rows if the history is shorter.
    """

    kind: ClassVar[str] = "neighbours"

    k: int = 5

    def sized_for(self, rows: int) -> tuple[NeighbourSettings, str | None]:
        """Return these settings for a history of any length."""
        return self, None

    def effort(self, rows: int) -> FitEffort:
        """Return the effort of a fit, which is negligible."""
        return FitEffort(0.0, 0)

    def fits_words(self, rows: int) -> bool:
        """Return False: neighbours need no table of hashed words."""
        return False


class Neighbours:
    """Mean quality and cost of a query's k nearest neighbours by cosine (PORT, arXiv 2509.02718, section 3).

    Parameters
    ----------
    history : EmbeddedHistory
        H answered queries.
    k : int
        Neighbours, 1 to H.
    weights : {"uniform", "similarity"}
        Equal weights, or exp(temperature (s - s_max)) of the similarity s.
    temperature : float
        Of the similarity weights.
    cost : {"mean", "per-length"}
        Mean cost of the neighbours, or their mean of cost / (characters + 20), times that of the query.
    index : {"exact", "hnsw"} or NeighbourIndex
        Search for neighbours.
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
            raise ValueError(
                f"index: {len(self._index)} rows for a history of {len(history)}; build it again"
            )
        self._lengths = _lengths(history.history.prompts)
        costs = history.history.cost
        if cost == "per-length":
            costs = costs / self._lengths[:, None]
        # Quality and cost are side by side: one pass over the neighbours' rows gives both.
        self._table = np.ascontiguousarray(np.hstack([history.history.quality, costs]))

    @classmethod
    def fit(
        cls,
        history: EmbeddedHistory,
        settings: NeighbourSettings,
        features: FloatArray | None = None,
        on_step: OnStep | None = None,
    ) -> Neighbours:
        """Return the neighbours of these settings; there is nothing to fit."""
        return cls(history, k=min(settings.k, len(history)))

    def save(self, folder: Path) -> None:
        """Write nothing: the history is all that neighbours need."""

    @classmethod
    def load(cls, folder: Path, history: EmbeddedHistory, settings: NeighbourSettings) -> Neighbours:
        """Return the neighbours of these settings; `save` wrote nothing."""
        return cls.fit(history, settings)

    def neighbours(self, batch: QueryBatch) -> tuple[Similarities, Rows]:
        """Return similarity and row in the history of the neighbours, each [n, k], nearest first."""
        return self._index.search(batch.embeddings, self.k)

    def estimate(self, batch: QueryBatch) -> Estimates:
        """Return quality and cost, [n, M], of new queries."""
        similarity, rows = self.neighbours(batch)
        lengths = _lengths(batch.prompts) if self.cost == "per-length" else None
        return self._estimates(similarity, rows, lengths)

    def leave_one_out(self, own: Rows | None = None) -> Estimates:
        """Return quality and cost of rows of the history, each from its neighbours without itself.

        Parameters
        ----------
        own : ndarray of int64, shape [n], optional
            The rows; all by default. Each costs a pass over the history.
        """
        similarity, rows = self._index.search_own(self.k, own)
        lengths = self._lengths if own is None else self._lengths[own]
        return self._estimates(similarity, rows, lengths if self.cost == "per-length" else None)

    def _estimates(self, similarity: Similarities, rows: Rows, lengths: FloatArray | None) -> Estimates:
        from scipy.sparse import csr_array

        n, k = rows.shape
        if self.weights == "uniform":
            # In row order: the sum must not depend on the search's order of equal similarities.
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
