"""Quality estimates from several kernels instead of the one with the smallest error.

The router does not use them; docs/results.md has their results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import cho_solve
from scipy.linalg.lapack import spotrf, spotri

from experiments.cases import Split
from experiments.estimates.sources import RidgeSource
from routing.arrays import Float32Array, FloatArray
from routing.embedding.bytes_embedder import fit_bytes
from routing.embedding.query_batch import QueryBatch
from routing.estimators.base import Estimates
from routing.estimators.cross_model import fit_across
from routing.estimators.features import FormFeatures
from routing.estimators.kernel import fit_exact, kernel
from routing.estimators.ridge_settings import GRID

_SUM_GAMMA_LAM = (1.0, 1.0)
"""gamma and lam of the sum of two kernels."""


@dataclass(frozen=True)
class StackedSource:
    """The best estimator's cost, and quality from several exact kernels.

    Parameters
    ----------
    base : RidgeSource
        Source on the data set's embeddings, with words.
    how : {"grid", "sum"}
        "grid": one ridge regression from the leave-one-out estimates of every kernel of the grid, all LLMs,
        to the residuals of the best. "sum": the mean of a kernel on embedding and form and a kernel on
        words and form, instead of one kernel on all of them.
    """

    base: RidgeSource
    how: Literal["grid", "sum"]

    def __post_init__(self) -> None:
        if self.base.embedder != "model" or not self.base.ridge.words:
            raise ValueError("stack: needs the preset `best`: the data set's embeddings, with words")

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        return f"stacked {self.how} {self.base.key}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        test, own = split.estimates(self.base)
        assert own is not None
        truth, features = split.data.quality[split.past], split.features[split.past]
        history = split.history
        words = fit_bytes(history.history.prompts, history.embeddings, self.base.ridge.words)
        form = FormFeatures.fit(features, self.base.ridge.cue_weight, words)
        rows, _ = form.of(QueryBatch(history.history.prompts, history.embeddings, features))
        new, _ = form.of(split.batch())
        if self.how == "grid":
            quality, left_out = _grid(rows, new, truth)
        else:
            quality, left_out = _sum(rows, new, truth, history.embeddings.shape[1], words.dimension)
        return (
            Estimates(np.clip(quality, 0, 1), test.cost),
            Estimates(np.clip(left_out, 0, 1), own.cost),
        )


def _grid(rows: Float32Array, new: Float32Array, truth: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return new and leave-one-out estimates across LLMs and kernels."""
    candidates = []
    for gamma, ridge in GRID:
        regression, own = fit_exact(rows, truth, gamma, ridge)
        candidates.append((float(((own - truth) ** 2).mean()), own, regression.predict(new)))
    candidates.sort(key=lambda fit: fit[0])
    own, predictions = np.hstack([fit[1] for fit in candidates]), np.hstack([fit[2] for fit in candidates])
    across, left_out = fit_across(own, truth)
    return across.correct(predictions), left_out


def _sum(
    rows: Float32Array, new: Float32Array, truth: FloatArray, meaning: int, words: int
) -> tuple[FloatArray, FloatArray]:
    """Return new and leave-one-out estimates of the sum of two kernels, corrected across LLMs."""
    gamma, ridge = _SUM_GAMMA_LAM
    gram, cross = np.zeros((len(rows), len(rows)), np.float32), np.zeros((len(new), len(rows)), np.float32)
    form = np.arange(meaning + words, rows.shape[1])
    for part in (np.arange(meaning), np.arange(meaning, meaning + words)):
        # Rows hold [meaning, words] / sqrt(2): scale each part back to unit length.
        scale = np.r_[np.full(len(part), np.sqrt(2)), np.ones(len(form))].astype(np.float32)
        columns = np.r_[part, form]
        points = np.ascontiguousarray(rows[:, columns] * scale)
        gram += kernel(points, points, gamma) / 2
        cross += kernel(np.ascontiguousarray(new[:, columns] * scale), points, gamma) / 2
    gram[np.diag_indices_from(gram)] += np.float32(ridge)
    factor, bad = spotrf(gram.T, lower=1, overwrite_a=1)
    if bad:
        raise np.linalg.LinAlgError("stack: the sum of kernels is not positive definite")
    mean = truth.mean(axis=0)
    weights = cho_solve((factor, True), (truth - mean).astype(np.float32))
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    own = truth - weights / np.diag(inverse)[:, None]
    across, left_out = fit_across(own, truth)
    return across.correct(cross @ weights + mean), left_out
