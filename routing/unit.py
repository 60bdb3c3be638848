"""Vectors of unit length, so that an inner product is a cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def normalised(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros becomes the first axis, so that every text has a direction.

    Parameters
    ----------
    vectors : array_like, shape [n, d]

    Returns
    -------
    ndarray of float32, shape [n, d]

    Examples
    --------
    >>> normalised([[3.0, 4.0], [0.0, 0.0]]).round(1).tolist()
    [[0.6000000238418579, 0.800000011920929], [1.0, 0.0]]
    """
    rows = np.array(vectors, dtype=np.float64, ndmin=2)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    empty = lengths < 1e-12
    rows[empty] = 0.0
    rows[empty, :1] = 1.0
    lengths[empty] = 1.0
    rows /= lengths[:, None]
    return rows.astype(np.float32)
