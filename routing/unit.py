"""Vectors of unit length, so that an inner product is a cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

HALF_PRECISION = 2.0**-11
"""How far the length of a unit row may be from 1 once float16 has rounded it."""


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


def as_stored(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows that float16 has kept, as they are; rows of any other length brought to unit length.

    Neighbours whose similarities differ by less than float16 keeps change places when rounded rows are scaled
    again: what is to be compared with figures made on stored rows has to take the rows as they are stored.

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
