"""One ridge regression across LLMs, which predicts each LLM's error from the estimates of all LLMs.

X are the history's leave-one-out estimates [H, M] (centred), R their residuals:
W = (X'X + lam tr(X'X)/M I)^-1 X'(R - mean R). The corrected estimate is x + W'(x - mean x) + mean R.
X may have more columns with estimates of other kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing.arrays import FloatArray


@dataclass(frozen=True)
class AcrossModels:
    """The fitted correction.

    Parameters
    ----------
    matrix : ndarray of float64, shape [K, M]
        I + W; K is M, or more with estimates of other kinds.
    shift : ndarray of float64, shape [M]
        Added to the product.
    """

    matrix: FloatArray
    shift: FloatArray

    def correct(self, estimates: FloatArray) -> FloatArray:
        """Return corrected estimates, [n, M], of first estimates, [n, K], without clipping."""
        return estimates @ self.matrix + self.shift


def fit_across(
    leave_one_out: FloatArray, truth: FloatArray, ridge: float = 0.1
) -> tuple[AcrossModels, FloatArray]:
    """Fit the correction to the history.

    Parameters
    ----------
    leave_one_out : ndarray of float64, shape [H, K]
        First estimates of the history, each made without its own row; the first M columns are corrected.
    truth : ndarray of float64, shape [H, M]
        True values.
    ridge : float
        lam of the module's formula.

    Returns
    -------
    across : AcrossModels
    leave_one_out : ndarray of float64, shape [H, M]
        The corrected estimates, made without their own row in this fit too (by the hat matrix's diagonal).
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
