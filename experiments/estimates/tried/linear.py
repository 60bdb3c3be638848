"""Plain ridge regression in place of the kernel, to measure the kernel's contribution (ablation)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.cases import Split
from experiments.estimates.sources import RidgeSource
from routing.arrays import FloatArray
from routing.embedding.query_batch import QueryBatch
from routing.estimators.base import Estimates
from routing.estimators.cross_model import fit_across
from routing.estimators.features import FormFeatures

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Candidates of lam; the smallest leave-one-out error decides. Rows of features have length about 1."""


@dataclass(frozen=True)
class LinearSource:
    """Another source's cost, and quality linear in the embedding and in the source's cues, if it has any.

    Parameters
    ----------
    base : RidgeSource
        Source on the data set's embeddings. Its words are not used.
    """

    base: RidgeSource

    def __post_init__(self) -> None:
        if self.base.embedder != "model":
            raise ValueError("kernel=none: needs the data set's embeddings")

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        return f"linear {self.base.key}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        test, own = split.estimates(self.base)
        assert own is not None
        history, features = split.history, split.features[split.past]
        form = FormFeatures.fit(features, self.base.ridge.cue_weight)
        rows, _ = form.of(QueryBatch(history.history.prompts, history.embeddings, features))
        new, _ = form.of(split.batch())
        truth = split.data.quality[split.past]
        quality, left_out = ridge(np.asarray(rows, float), np.asarray(new, float), truth)
        if self.base.ridge.across:
            across, left_out = fit_across(left_out, truth)
            quality = across.correct(quality)
        return (
            Estimates(np.clip(quality, 0, 1), test.cost),
            Estimates(np.clip(left_out, 0, 1), own.cost),
        )


def ridge(rows: FloatArray, new: FloatArray, truth: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return predictions of new rows, and leave-one-out ones of the history by the hat matrix's diagonal.

    Parameters
    ----------
    rows : ndarray of float64, shape [H, D]
    new : ndarray of float64, shape [n, D]
    truth : ndarray of float64, shape [H, M]

    Returns
    -------
    predictions : ndarray of float64, shape [n, M]
    leave_one_out : ndarray of float64, shape [H, M]
    """
    # The column of ones carries the mean, so that leave-one-out excludes a row from the mean, too.
    x, z = (np.hstack([part, np.ones((len(part), 1))]) for part in (rows, new))
    gram, right = x.T @ x, x.T @ truth
    best: tuple[float, FloatArray, FloatArray] | None = None
    for lam in RIDGES:
        system = gram.copy()
        system[np.diag_indices_from(system)] += np.r_[np.full(rows.shape[1], lam), 1e-9]
        weights = np.linalg.solve(system, right)
        hat = np.minimum(np.einsum("ij,ji->i", x, np.linalg.solve(system, x.T)), 0.999)
        own = truth - (truth - x @ weights) / (1 - hat)[:, None]
        error = float(((own - truth) ** 2).mean())
        if best is None or error < best[0]:
            best = error, z @ weights, own
    assert best is not None
    return best[1], best[2]
