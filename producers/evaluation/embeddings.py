"""Embed the texts of a data set and show progress."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routing.embedding.embedder import Embedder
from routing.progress import Progress

CHUNK_TEXTS = 64


def embed_with_progress(embedder: Embedder, texts: Sequence[str], label: str) -> NDArray[np.float32]:
    """Return the embeddings of texts, shape [n, d]."""
    parts = []
    with Progress(len(texts), label, "texts") as progress:
        for start in range(0, len(texts), CHUNK_TEXTS):
            parts.append(embedder.embed(texts[start : start + CHUNK_TEXTS]).embeddings)
            progress.advance(len(parts[-1]))
    return np.concatenate(parts) if parts else np.zeros((0, embedder.dimension), np.float32)
