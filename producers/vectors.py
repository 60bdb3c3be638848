"""Embeddings of a data set's texts: out of a file, or made now with progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from routing.embedding import Embedder, normalised

CHUNK = 64


def stored_vectors(path: Path, rows: int) -> NDArray[np.float32]:
    """Embeddings out of a .npy file, one row a row of the data set, made unit.

    Raises
    ------
    ValueError
        The file has another number of rows, or a number that is NaN or infinite.
    """
    vectors = np.load(path, allow_pickle=False)
    if vectors.ndim != 2 or len(vectors) != rows:
        raise ValueError(f"embeddings: {path} is {list(vectors.shape)}; the data set has {rows} rows")
    if not np.all(np.isfinite(vectors)):
        raise ValueError(f"embeddings: {path} has numbers that are NaN or infinite; make it anew")
    return normalised(vectors)


def embed_with_progress(embedder: Embedder, texts: Sequence[str], label: str) -> NDArray[np.float32]:
    """Embeddings made now, shape [n, d]."""
    parts = []
    with tqdm(total=len(texts), desc=label, unit="text") as bar:
        for start in range(0, len(texts), CHUNK):
            parts.append(embedder.embed(texts[start : start + CHUNK]).embeddings)
            bar.update(len(parts[-1]))
    return np.concatenate(parts) if parts else np.zeros((0, embedder.dimension), np.float32)
