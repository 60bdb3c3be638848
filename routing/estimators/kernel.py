"""Kernel ridge regression with the exponential kernel, exact, with its leave-one-out in closed form.

K_ab = exp(-gamma |z_a - z_b|), A = (K + lam I)^-1 (Y - mean Y), prediction k(z)'A + mean Y. The leave-one-out
estimate of row j is y_j - A_j / ((K + lam I)^-1)_jj: no row is ever fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.linalg.lapack import spotrf, spotri

from routing.estimators.base import FloatArray

Float32Array = NDArray[np.float32]

_BLOCK = 256
_CLOSE = 5e-3  # squared distance below which float32 cancellation would show; those few are done in float64
_LARGEST_BLOCK = 1 << 22  # kernel values held at once: 16 MB


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

    def predict(self, rows: Float32Array) -> FloatArray:
        """Predictions [n, K]; a row does not depend on the others beyond the last bits."""
        out = np.empty((len(rows), len(self.mean)))
        squares = np.einsum("ij,ij->i", self.points, self.points)
        step = int(min(_BLOCK, max(1, _LARGEST_BLOCK // max(len(self.points), 1))))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            out[part] = kernel(rows[part], self.points, self.gamma, squares) @ self.weights
        out += self.mean
        return out


def kernel(
    rows: Float32Array, points: Float32Array, gamma: float, squares: Float32Array | None = None
) -> Float32Array:
    """exp(-gamma |a - b|) for every row a and point b, float32 [n, m].

    Squared distances come from inner products, which cancel where rows nearly coincide (the root of an error
    of 1e-7 is 3e-4, and it would depend on the batch's shape): those pairs are done again in float64.
    """
    if squares is None:
        squares = np.einsum("ij,ij->i", points, points)
    distance = rows @ points.T
    distance *= -2
    distance += squares
    distance += np.einsum("ij,ij->i", rows, rows)[:, None]
    close = np.flatnonzero(distance < _CLOSE)
    if len(close):
        a, b = np.divmod(close, distance.shape[1])
        for start in range(0, len(close), 4096):
            part = slice(start, start + 4096)
            apart = rows[a[part]].astype(np.float64) - points[b[part]]
            distance[a[part], b[part]] = np.einsum("ij,ij->i", apart, apart)
    np.sqrt(distance, out=distance)
    distance *= -gamma
    return np.exp(distance, out=distance)


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
    rows = np.ascontiguousarray(rows, np.float32)
    mean = targets.mean(axis=0)
    gram = kernel_matrix(rows, rows, gamma)
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


def kernel_matrix(rows: Float32Array, points: Float32Array, gamma: float) -> Float32Array:
    """`kernel` for many rows, block by block."""
    out = np.empty((len(rows), len(points)), np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        out[part] = kernel(rows[part], points, gamma, squares)
    return out
