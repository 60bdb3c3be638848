"""A batch of queries with their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray


@dataclass(frozen=True)
class QueryBatch:
    """Queries as the input of estimators.

    Parameters
    ----------
    prompts : sequence of str, length n
        The prompts as sent to the LLM.
    embeddings : ndarray of float32, shape [n, d]
        One unit vector per query.
    counts : ndarray of float64, shape [n, c], optional
        Text counts of the prompts (see `routing.embedding.text_features`), if the embedder has them.
    """

    prompts: Sequence[str]
    embeddings: NDArray[np.float32]
    counts: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.prompts):
            raise ValueError(
                f"embeddings: shape {self.embeddings.shape} does not match {len(self.prompts)} prompts; "
                "give one row per prompt"
            )
