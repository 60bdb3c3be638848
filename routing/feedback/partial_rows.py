"""Rows of answered queries that know one LLM: the missing qualities, filled in by estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates

SHRINKAGE_ROWS = 50.0
"""Rows without any relation between LLMs that are added to the rows that slopes are measured on."""


@dataclass(frozen=True, eq=False)
class ResidualSlopes:
    """Relation between the errors of the estimates of two LLMs on one query.

    A query that is harder than it looks is harder for most LLMs: if one LLM answers worse than estimated, the
    estimates of the others are too high as well.

    Parameters
    ----------
    slopes : ndarray of float64, shape [M, M]
        Expected error of LLM j per unit of the error of LLM i, in row i and column j; 1 on the diagonal.
    """

    slopes: FloatArray

    @classmethod
    def fit(cls, quality: FloatArray, own: Estimates) -> ResidualSlopes:
        """Measure the slopes on rows that know all LLMs.

        Parameters
        ----------
        quality : ndarray of float64, shape [H, M]
        own : Estimates
            Leave-one-out estimates of these rows, [H, M].
        """
        error = quality - own.quality
        error = error - error.mean(0)
        product = error.T @ error / len(error)
        variance = np.maximum(np.diag(product), 1e-12)
        slopes = product / variance[:, None] * (len(error) / (len(error) + SHRINKAGE_ROWS))
        np.fill_diagonal(slopes, 1.0)
        return cls(slopes)

    def filled(self, estimates: FloatArray, model: IntArray, quality: FloatArray) -> FloatArray:
        """Return the qualities of all LLMs, given that of one, [n, M].

        Parameters
        ----------
        estimates : ndarray of float64, shape [n, M]
            Current estimates of the quality of the n queries.
        model : ndarray of int64, shape [n]
            LLM that answered.
        quality : ndarray of float64, shape [n]
            Of its answer.

        Examples
        --------
        >>> slopes = ResidualSlopes(np.array([[1.0, 0.5], [0.5, 1.0]]))
        >>> slopes.filled(np.array([[0.8, 0.6]]), np.array([0]), np.array([0.4])).round(3).tolist()
        [[0.4, 0.4]]
        """
        error = quality - estimates[np.arange(len(model)), model]
        filled = np.clip(estimates + self.slopes[model] * error[:, None], 0.0, 1.0)
        filled[np.arange(len(model)), model] = quality
        return filled
