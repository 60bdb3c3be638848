"""Embeddings of a data set's texts out of a .npy file."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from routing.embedding.unit_vectors import normalised


def stored_vectors(path: Path, rows: int) -> NDArray[np.float32]:
    """Read embeddings, one row for each row of the data set, and scale them to unit length.

    Raises
    ------
    ValueError
        The file cannot be read, has another number of rows, or has NaN or infinite values.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except (EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"embeddings: {path} is not readable as .npy ({error}); make it again") from None
    if not isinstance(vectors, np.ndarray):
        raise ValueError(f"embeddings: {path} is an archive of several arrays; save one as .npy")
    if vectors.ndim != 2 or len(vectors) != rows:
        raise ValueError(
            f"embeddings: {path} is {list(vectors.shape)}; the data set has {rows} rows that are used, "
            "give a vector for each"
        )
    if not np.all(np.isfinite(vectors)):
        raise ValueError(f"embeddings: {path} has numbers that are NaN or infinite; make it again")
    return normalised(vectors)
