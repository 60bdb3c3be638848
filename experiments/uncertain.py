"""Tried past the best estimates: the kernel's own variance as a bonus or a penalty in choices and prices.

None of it is in the router; docs/results.md tells what it gave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import spotrf, spotri

from experiments.sources import RidgeSource
from experiments.split import Split
from routing.bytes_embedder import fit_bytes
from routing.estimators.base import Estimates, FloatArray, QueryBatch
from routing.estimators.features import FormFeatures
from routing.estimators.kernel import Float32Array, kernel
from routing.estimators.ridge import GRID

KERNEL = GRID[1]
"""gamma and lam: the variance tells where the history is thin, which hardly depends on them."""

_BLOCK = 2048


@dataclass(frozen=True)
class UncertainSource:
    """The best estimator's quality plus a factor times its standard deviation, clipped to [0, 1].

    Seen as a Gaussian process, the kernel regression has at z the variance s_i^2 (k(z, z) - k_z'P k_z),
    P = (K + lam I)^-1, with the scale s_i^2 of LLM i from its leave-one-out residuals r: the mean of
    r_j^2 P_jj. Left out of the history, row j has s_i^2 (1/P_jj - lam). The history's estimates
    change as the queries' do, so that prices are learned on them.

    Parameters
    ----------
    base : RidgeSource
        On the data set's own embeddings.
    factor : float
        Above 0 a bonus for what is uncertain, below 0 a penalty.
    """

    base: RidgeSource
    factor: float

    def __post_init__(self) -> None:
        if self.base.embedder != "model":
            raise ValueError("deviation: needs the data set's own embeddings")

    @property
    def key(self) -> str:
        """Names the settings."""
        return f"uncertain {self.factor} {self.base.key}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.split.Source`."""
        found, own = split.estimates(self.base)
        assert own is not None
        history, features, words = split.history, split.features[split.past], None
        if self.base.ridge.words:
            words = fit_bytes(history.history.prompts, history.embeddings, self.base.ridge.words)
        form = FormFeatures.fit(features, self.base.ridge.cue_weight, words)
        rows, _ = form.of(QueryBatch(history.history.prompts, history.embeddings, features))
        new, _ = form.of(split.batch())
        here, there, inverse = variances(rows, new, *KERNEL)
        residual = split.data.quality[split.past] - own.quality
        scale = np.sqrt((residual**2 * inverse[:, None]).mean(axis=0))
        return tuple(  # type: ignore[return-value]
            Estimates(np.clip(one.quality + self.factor * np.sqrt(part)[:, None] * scale, 0, 1), one.cost)
            for one, part in ((found, here), (own, there))
        )


def variances(
    rows: Float32Array, new: Float32Array, gamma: float, lam: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variance of the kernel regression at scale 1.

    Returns
    -------
    new : ndarray of float64, shape [n]
        At new rows.
    left_out : ndarray of float64, shape [H]
        At every row of the history, left out of it.
    precision : ndarray of float64, shape [H]
        Diagonal of (K + lam I)^-1.
    """
    gram = kernel(rows, rows, gamma)
    gram[np.diag_indices_from(gram)] += np.float32(lam)
    factor, bad = spotrf(gram.T, lower=1, overwrite_a=1)
    if bad:
        raise np.linalg.LinAlgError("deviation: the kernel matrix is not positive definite")
    here = np.empty(len(new))
    for start in range(0, len(new), _BLOCK):
        part = slice(start, start + _BLOCK)
        half = solve_triangular(factor, kernel(new[part], rows, gamma).T, lower=True, check_finite=False)
        here[part] = 1 - np.einsum("ij,ij->j", half, half)
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    precision = np.diag(inverse).astype(float)
    return np.maximum(here, 0), np.maximum(1 / precision - lam, 0), precision
