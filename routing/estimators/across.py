"""One ridge regression across LLMs: what the estimates of all LLMs together say about each one's error.

X are the history's leave-one-out estimates [H, M] (centred), R their residuals:
W = (X'X + lam tr(X'X)/M I)^-1 X'(R - mean R). The corrected estimate is x + W'(x - mean x) + mean R.
Estimates of other kinds may stand beside those that are corrected, as more columns of X.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing.estimators.base import FloatArray


@dataclass(frozen=True)
class AcrossModels:
    """The fitted correction.

    Parameters
    ----------
    matrix : ndarray of float64, shape [K, M]
        I + W; K is M, or more where there are estimates of other kinds.
    shift : ndarray of float64, shape [M]
        What is added, so that the correction is one product.
    """

    matrix: FloatArray
    shift: FloatArray

    def correct(self, estimates: FloatArray) -> FloatArray:
        """Corrected estimates [n, M] of first ones [n, K], not yet clipped."""
        return estimates @ self.matrix + self.shift


def fit_across(
    leave_one_out: FloatArray, truth: FloatArray, ridge: float = 0.1
) -> tuple[AcrossModels, FloatArray]:
    """Fit on the history.

    Parameters
    ----------
    leave_one_out : ndarray of float64, shape [H, K]
        First estimates of the history, each without its own row; the first M columns are corrected.
    truth : ndarray of float64, shape [H, M]
        What was true.
    ridge : float
        lam of the module's formula.

    Returns
    -------
    across : AcrossModels
    leave_one_out : ndarray of float64, shape [H, M]
        The corrected estimates, this fit's own leave-one-out included (by its hat matrix's diagonal).
    """
    models = truth.shape[1]
    centre = leave_one_out.mean(axis=0)
    x = leave_one_out - centre
    first = leave_one_out[:, :models]
    residual = truth - first
    mean = residual.mean(axis=0)
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + 1e-12
    w = np.linalg.solve(gram, x.T @ (residual - mean))
    hat = np.minimum(np.einsum("ij,ij->i", x, np.linalg.solve(gram, x.T).T), 0.999)
    error = residual - mean - x @ w
    corrected = first + x @ w + mean - error * (hat / (1 - hat))[:, None]
    return AcrossModels(np.eye(len(gram), models) + w, mean - centre @ w), corrected
