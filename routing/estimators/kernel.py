"""Kernel ridge regression with the exponential kernel, exact, with its leave-one-out in closed form.

K_ab = exp(-gamma |z_a - z_b|), A = (K + lam I)^-1 (Y - mean Y), prediction k(z)'A + mean Y. The leave-one-out
estimate of row j is y_j - A_j / ((K + lam I)^-1)_jj: no row is ever fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from routing.arrays import Float32Array, FloatArray

_ROWS, _POINTS = 256, 1024  # of a tile: 1 MB of kernel values, which stay in the cache
_CLOSE = 5e-3  # squared distance below which float32 cancels; such pairs use float64


@dataclass(frozen=True)
class KernelMachine:
    """A fitted regression: predicts K outputs from the kernel with m points.

    Parameters
    ----------
    points : ndarray of float32, shape [m, D]
        History rows (exact) or landmarks.
    weights : ndarray of float32, shape [m, K]
        A of the module's formula.
    mean : ndarray of float64, shape [K]
        Mean of the targets.
    gamma : float
        Width of the kernel.
    """

    points: Float32Array
    weights: Float32Array
    mean: FloatArray
    gamma: float

    @cached_property
    def _right(self) -> Float32Array:
        return _right_side(self.points)

    def predict(self, rows: Float32Array) -> FloatArray:
        """Return predictions, [n, K]; rows depend on each other by rounding errors only."""
        out = np.zeros((len(rows), len(self.mean)))
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            left = _left_side(rows[part])
            for at in range(0, len(self.points), _POINTS):
                tile = slice(at, at + _POINTS)
                values = _tile(left, self._right[tile], rows[part], self.points[tile], self.gamma)
                out[part] += values @ self.weights[tile]
        out += self.mean
        return out


def kernel(rows: Float32Array, points: Float32Array, gamma: float) -> Float32Array:
    """Return exp(-gamma |a - b|) for every row a and point b, float32 [n, m]."""
    out = np.empty((len(rows), len(points)), np.float32)
    right = _right_side(points)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        left = _left_side(rows[part])
        for at in range(0, len(points), _POINTS):
            tile = slice(at, at + _POINTS)
            out[part, tile] = _tile(left, right[tile], rows[part], points[tile], gamma)
    return out


def _left_side(rows: Float32Array) -> Float32Array:
    """Return [-2 z, |z|^2, 1], whose product with `_right_side` gives squared distances."""
    squares = np.einsum("ij,ij->i", rows, rows)[:, None]
    return np.hstack([rows * np.float32(-2), squares, np.ones_like(squares)])


def _right_side(points: Float32Array) -> Float32Array:
    """Return [p, 1, |p|^2] for each point, [m, D + 2]."""
    squares = np.einsum("ij,ij->i", points, points)[:, None]
    return np.ascontiguousarray(np.hstack([points, np.ones_like(squares), squares]), np.float32)


def _tile(
    left: Float32Array, right: Float32Array, rows: Float32Array, points: Float32Array, gamma: float
) -> Float32Array:
    """Return the kernel values of a piece that stays in the processor's cache.

    Squared distances come from inner products, which cancel if rows nearly coincide: the root of an error of
    1e-7 is 3e-4, and it would depend on the batch's shape. Such pairs are computed again in float64.
    """
    distance: Float32Array = left @ right.T
    close = np.flatnonzero(distance < _CLOSE)
    if len(close):
        a, b = np.divmod(close, distance.shape[1])
        for start in range(0, len(close), 4096):
            part = slice(start, start + 4096)
            apart = rows[a[part]].astype(np.float64) - points[b[part]]
            distance[a[part], b[part]] = np.einsum("ij,ij->i", apart, apart)
    np.sqrt(distance, out=distance)
    distance *= np.float32(-gamma)
    np.exp(distance, out=distance)
    return distance


def fit_exact(
    rows: Float32Array, targets: FloatArray, gamma: float, ridge: float
) -> tuple[KernelMachine, FloatArray]:
    """Fit on all rows: 4 H^2 bytes and about H^3 floating point operations.

    Parameters
    ----------
    rows : ndarray of float32, shape [H, D]
        Features of the history.
    targets : ndarray of float64, shape [H, K]
        All outputs share one factorisation.
    gamma, ridge : float
        gamma and lam of the module's formula.

    Returns
    -------
    machine : KernelMachine
    leave_one_out : ndarray of float64, shape [H, K]
        Each row's prediction had it not been in the history.
    """
    from scipy.linalg import cho_solve
    from scipy.linalg.lapack import spotrf, spotri

    rows = np.ascontiguousarray(rows, np.float32)
    mean = targets.mean(axis=0)
    gram = kernel(rows, rows, gamma)
    gram[np.diag_indices_from(gram)] += np.float32(ridge)
    factor, bad = spotrf(gram.T, lower=1, overwrite_a=1)
    if bad:
        raise np.linalg.LinAlgError(
            f"ridge: {ridge} is too small, the kernel matrix is not positive definite"
        )
    weights = cho_solve((factor, True), (targets - mean).astype(np.float32))
    inverse, bad = spotri(factor, lower=1, overwrite_c=1)
    if bad:
        raise np.linalg.LinAlgError(f"ridge: {ridge} is too small, the kernel matrix cannot be inverted")
    leave_one_out = targets - weights / np.diag(inverse)[:, None]
    return KernelMachine(rows, np.ascontiguousarray(weights), mean, gamma), leave_one_out
