"""Kernel ridge regression on landmarks: the cost of a prediction no longer grows with the history.

With P the m landmarks, K_nm = K(history, P) and K_mm = K(P, P), the weights solve
(K_nm' K_nm + lam (K_mm + jitter I)) A = K_nm'(Y - mean Y): the ridge regression on the m kernel functions
with the kernel's own norm (Nystroem). Leave-one-out by the diagonal h of its hat matrix:
y - (y - fit) / (1 - h).
"""

from __future__ import annotations

import numpy as np

from routing.arrays import Float32Array, FloatArray
from routing.estimators.kernel import KernelMachine, kernel

_JITTER = 1e-3
_BLOCK = 4096


def fit_landmarks(
    rows: Float32Array,
    targets: FloatArray,
    gamma: float,
    ridge: float,
    landmarks: Float32Array,
) -> tuple[KernelMachine, FloatArray]:
    """Fit on landmarks: about 8 H m + 8 m^2 bytes, H m^2 operations.

    Parameters
    ----------
    rows : ndarray of float32, shape [H, D]
        Features of the history.
    targets : ndarray of float64, shape [H, K]
    gamma, ridge : float
        gamma and lam of the module's formula.
    landmarks : ndarray of float32, shape [m, D]
        From `choose_landmarks`.

    Returns
    -------
    machine : KernelMachine
    leave_one_out : ndarray of float64, shape [H, K]
    """
    from scipy.linalg import cho_factor, cho_solve, solve_triangular

    rows = np.ascontiguousarray(rows, np.float32)
    landmarks = np.ascontiguousarray(landmarks, np.float32)
    count, mean = len(landmarks), targets.mean(axis=0)
    system = ridge * kernel(landmarks, landmarks, gamma).astype(np.float64)
    system[np.diag_indices_from(system)] += ridge * _JITTER
    right = np.zeros((count, targets.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        values = kernel(rows[part], landmarks, gamma)
        system += values.T @ values
        right += values.T @ (targets[part] - mean)
    factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, right, check_finite=False).astype(np.float32)
    machine = KernelMachine(landmarks, np.ascontiguousarray(weights), mean, gamma)
    lower = np.asarray(factor[0], np.float32)
    leave_one_out = np.empty(targets.shape)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        values = kernel(rows[part], landmarks, gamma)
        half = solve_triangular(lower, values.T, lower=True, check_finite=False)
        hat = np.minimum(np.einsum("ij,ij->j", half, half), 0.999).astype(np.float64)
        fit = values @ weights + mean
        leave_one_out[part] = targets[part] - (targets[part] - fit) / (1 - hat)[:, None]
    return machine, leave_one_out


def choose_landmarks(rows: Float32Array, count: int, seed: int = 0) -> Float32Array:
    """Draw distinct rows of the history at random, [min(count, H), D]."""
    order = np.random.default_rng(seed).permutation(len(rows))
    distinct = np.unique(rows[order[: 2 * count]], axis=0, return_index=True)[1]
    return np.ascontiguousarray(rows[order[np.sort(distinct)[:count]]], np.float32)
