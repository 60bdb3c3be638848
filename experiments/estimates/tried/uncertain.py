"""The kernel's own variance as a bonus or a penalty in choices and prices.

The router does not use it; docs/results.md has its results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import spotrf, spotri

from experiments.cases import Split
from experiments.estimates.sources import RidgeSource
from routing.arrays import Float32Array, FloatArray
from routing.embedding.bytes_embedder import fit_bytes
from routing.embedding.query_batch import QueryBatch
from routing.estimators.base import Estimates
from routing.estimators.features import FormFeatures
from routing.estimators.kernel import kernel
from routing.estimators.ridge_settings import GRID

KERNEL = GRID[1]
"""gamma and lam. The variance shows where the history is thin, which hardly depends on them."""

_BLOCK_ROWS = 2048


@dataclass(frozen=True)
class UncertainSource:
    """The best estimator's quality plus a factor times its standard deviation, clipped to [0, 1].

    As a Gaussian process, the kernel regression has the variance s_i^2 (k(z, z) - k_z'P k_z) at z, with
    P = (K + lam I)^-1. The scale s_i^2 of LLM i is the mean of r_j^2 P_jj over its leave-one-out residuals r.
    Row j, left out of the history, has the variance s_i^2 (1/P_jj - lam). The history's estimates change in
    the same way as the queries', because prices are learned on them.

    Parameters
    ----------
    base : RidgeSource
        Source on the data set's embeddings.
    factor : float
        Positive for a bonus on uncertain estimates, negative for a penalty.
    """

    base: RidgeSource
    factor: float

    def __post_init__(self) -> None:
        if self.base.embedder != "model":
            raise ValueError("deviation: needs the data set's embeddings")

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        return f"uncertain {self.factor} {self.base.key}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        test, own = split.estimates(self.base)
        assert own is not None
        history, features, words = split.history, split.features[split.past], None
        if self.base.ridge.words:
            words = fit_bytes(history.history.prompts, history.embeddings, self.base.ridge.words)
        form = FormFeatures.fit(features, self.base.ridge.cue_weight, words)
        rows, _ = form.of(QueryBatch(history.history.prompts, history.embeddings, features))
        new, _ = form.of(split.batch())
        test_variance, own_variance, precision = variances(rows, new, *KERNEL)
        residual = split.data.quality[split.past] - own.quality
        scale = np.sqrt((residual**2 * precision[:, None]).mean(axis=0))
        return tuple(  # type: ignore[return-value]
            Estimates(
                np.clip(estimates.quality + self.factor * np.sqrt(variance)[:, None] * scale, 0, 1),
                estimates.cost,
            )
            for estimates, variance in ((test, test_variance), (own, own_variance))
        )


def variances(
    rows: Float32Array, new: Float32Array, gamma: float, lam: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the variance of the kernel regression at scale 1.

    Returns
    -------
    variance : ndarray of float64, shape [n]
        Variance at new rows.
    left_out : ndarray of float64, shape [H]
        Variance at every row of the history, left out of it.
    precision : ndarray of float64, shape [H]
        Diagonal of (K + lam I)^-1.
    """
    gram = kernel(rows, rows, gamma)
    gram[np.diag_indices_from(gram)] += np.float32(lam)
    factor, bad = spotrf(gram.T, lower=1, overwrite_a=1)
    if bad:
        raise np.linalg.LinAlgError("deviation: the kernel matrix is not positive definite")
    variance = np.empty(len(new))
    for start in range(0, len(new), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        half = solve_triangular(factor, kernel(new[part], rows, gamma).T, lower=True, check_finite=False)
        variance[part] = 1 - np.einsum("ij,ij->j", half, half)
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    precision = np.diag(inverse).astype(float)
    return np.maximum(variance, 0), np.maximum(1 / precision - lam, 0), precision
