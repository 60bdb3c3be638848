"""Vectors of unit length, so that an inner product is a cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

HALF_PRECISION = 2.0**-11
"""Maximum distance of a unit row's length from 1 after rounding to float16."""


def normalised(vectors: ArrayLike) -> NDArray[np.float32]:
    """Return rows of unit length; a row of zeros becomes the first axis.

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


def as_stored(vectors: ArrayLike) -> NDArray[np.float32]:
    """Return rows with unit length; rows whose length differs by float16 rounding only stay as they are.

    Neighbours whose similarities differ by less than float16 keeps change places when rounded rows are scaled
    again: results on stored rows are comparable only if the rows stay as they are stored.

    Parameters
    ----------
    vectors : array_like, shape [n, d]

    Returns
    -------
    ndarray of float32, shape [n, d]

    Examples
    --------
    >>> as_stored(np.array([[0.6, 0.8], [3.0, 4.0]], np.float16)).tolist() == [
    ...     [float(np.float16(0.6)), float(np.float16(0.8))],
    ...     [float(np.float32(0.6)), float(np.float32(0.8))],
    ... ]
    True
    """
    rows = np.array(vectors, dtype=np.float64, ndmin=2)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    unit = np.abs(lengths - 1) <= HALF_PRECISION
    out = rows.astype(np.float32)
    out[~unit] = normalised(rows[~unit])
    return out
