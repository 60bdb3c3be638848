"""Task clusters: spherical k-means on the embeddings of a history."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray

CLUSTERS = 8
"""Clusters of a history: with more, each sees too few reported answers to learn from."""

ROUNDS = 15
MAX_ROWS = 20_000
"""Rows of the history that the centres are computed from."""


@dataclass(frozen=True, eq=False)
class TaskClusters:
    """Centres of k clusters.

    Parameters
    ----------
    centres : ndarray of float32, shape [k, d]
        Unit vectors.
    """

    centres: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.centres)

    def nearest(self, embeddings: NDArray[np.float32]) -> IntArray:
        """Return the cluster of each embedding, shape [n]."""
        label: IntArray = (embeddings @ self.centres.T).argmax(1).astype(np.int64)
        return label

    @cached_property
    def digest(self) -> str:
        """First 16 digits of the sha256 of the centres, rounded, so that last bits do not matter."""
        rounded = np.round(self.centres.astype(np.float64), 3) + 0.0
        return hashlib.sha256(np.ascontiguousarray(rounded, "<f8").tobytes()).hexdigest()[:16]


def fit_clusters(embeddings: NDArray[np.float32], count: int = CLUSTERS, seed: int = 0) -> TaskClusters:
    """Cluster a history's embeddings by cosine.

    Parameters
    ----------
    embeddings : ndarray of float32, shape [H, d]
        Unit vectors.
    count : int
        Clusters; at most one per row.
    seed : int
        Of the starting rows.

    Returns
    -------
    TaskClusters
        The same for the same rows and seed. A cluster that loses all its rows keeps its centre.

    Examples
    --------
    >>> corners = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]]
    >>> labels = fit_clusters(corners, 3, seed=1).nearest(corners)
    >>> bool(labels[0] == labels[1] and labels[2] == labels[3])
    True
    """
    random = np.random.default_rng(seed)
    rows = embeddings
    if len(rows) > MAX_ROWS:
        rows = rows[random.choice(len(rows), MAX_ROWS, replace=False)]
    centres = rows[_spread(rows, min(count, len(rows)), random)].astype(np.float32)
    for _ in range(ROUNDS):
        label = (rows @ centres.T).argmax(1)
        for number in range(len(centres)):
            members: FloatArray = rows[label == number].sum(0, dtype=np.float64)
            length = float(np.linalg.norm(members))
            if length > 0:
                centres[number] = members / length
    return TaskClusters(centres)


def _spread(rows: NDArray[np.float32], count: int, random: np.random.Generator) -> list[int]:
    """Choose rows far from each other to start from (k-means++, Arthur and Vassilvitskii, 2007)."""
    chosen = [int(random.integers(len(rows)))]
    distance = np.maximum(1 - rows @ rows[chosen[0]], 0).astype(np.float64)
    while len(chosen) < count:
        total = float(distance.sum())
        weights = distance / total if total > 0 else None
        chosen.append(int(random.choice(len(rows), p=weights)))
        distance = np.minimum(distance, np.maximum(1 - rows @ rows[chosen[-1]], 0))
    return chosen
