"""What every estimator takes and gives: a batch of queries in, quality and cost for every LLM out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class QueryBatch:
    """Queries as estimators see them.

    Parameters
    ----------
    prompts : sequence of str, length n
        The prompts as the LLM would get them.
    embeddings : ndarray of float32, shape [n, d]
        One unit vector a query.
    counts : ndarray of float64, shape [n, c], optional
        Text counts of the prompts (see `routing.cues`), when the embedder found them in the same pass.
    """

    prompts: Sequence[str]
    embeddings: NDArray[np.float32]
    counts: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.prompts):
            raise ValueError(
                f"embeddings: shape {self.embeddings.shape} does not fit {len(self.prompts)} prompts; "
                "give one row a prompt"
            )


@dataclass(frozen=True)
class Estimates:
    """Estimated quality and cost of every LLM on every query (d^ and g^ of the paper, section 3).

    Parameters
    ----------
    quality : ndarray of float64, shape [n, M]
        In [0, 1].
    cost : ndarray of float64, shape [n, M]
        USD, positive.
    """

    quality: FloatArray
    cost: FloatArray

    def __post_init__(self) -> None:
        if self.quality.ndim != 2 or self.quality.shape != self.cost.shape:
            raise ValueError(f"quality {self.quality.shape} and cost {self.cost.shape} must both be [n, M]")

    def __len__(self) -> int:
        return len(self.quality)

    def rows(self, index: slice | NDArray[np.intp]) -> Estimates:
        """The estimates of some of the queries."""
        return Estimates(self.quality[index], self.cost[index])


class Estimator(Protocol):
    """Estimates quality and cost from a history of answered queries; nothing in it is trained by gradient."""

    models: tuple[str, ...]

    def estimate(self, batch: QueryBatch) -> Estimates:
        """Estimates for new queries, [n, M]; no row depends on the other rows beyond the last bits."""
        ...

    def leave_one_out(self) -> Estimates:
        """Estimates for the history's own rows, [H, M], each made without that row's answers."""
        ...
