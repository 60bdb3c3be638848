"""Correction of estimated quality by reported quality: a forgetting, shrunken mean per LLM and cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing.arrays import FloatArray

OWN_MEMORY = 50.0
"""Answers of one LLM after which an older answer of the same LLM weighs 1/e."""

TOTAL_MEMORY = 500.0
"""Answers of all LLMs after which evidence has faded to 1/e, so that an avoided LLM is tried again."""

SHRINKAGE = 5.0
"""Answers with a difference of 0 that are added to the answers of an LLM."""

CLUSTER_SHRINKAGE = 30.0
"""Answers at the LLM's own correction that are added to the answers of a cluster."""

VARIANCE = 0.15
"""Variance of a reported quality around its estimate; .13 to .19 on the data sets of docs/learning.md."""

GATE = 6.0
"""Squared z score up to which a difference counts as noise and corrects nothing."""


@dataclass(frozen=True, eq=False)
class QualityCorrection:
    """Evidence on how much reported quality differs from estimated quality.

    Parameters
    ----------
    residual : ndarray of float64, shape [M, K]
        Weighted sum of reported minus estimated quality, by LLM and task cluster.
    weight : ndarray of float64, shape [M, K]
        Sum of the weights of those answers.
    """

    residual: FloatArray
    weight: FloatArray

    @classmethod
    def empty(cls, models: int, clusters: int) -> QualityCorrection:
        """Return the correction without evidence."""
        return cls(np.zeros((models, clusters)), np.zeros((models, clusters)))

    def with_answers(self, count: FloatArray, residual: FloatArray) -> QualityCorrection:
        """Return the correction after more answers.

        An answer fades with the answers of its own LLM, because newer ones say more, and, more slowly, with
        those of all LLMs. An LLM that a correction makes unattractive gets no answers. Only the second makes
        its evidence fade until the LLM is tried again: if it is still bad, a few answers suffice.

        New answers count as spread evenly, so that the result hardly depends on how they come in batches.

        Parameters
        ----------
        count : ndarray of float64, shape [M, K]
            New answers.
        residual : ndarray of float64, shape [M, K]
            Sums of reported minus estimated quality of the new answers. The estimates are uncorrected ones.
        """
        own = count.sum(1, keepdims=True)
        age = own / OWN_MEMORY + own.sum() / TOTAL_MEMORY
        fade, gain = np.exp(-age), -np.expm1(-age) / np.maximum(age, 1e-12)
        return QualityCorrection(self.residual * fade + residual * gain, self.weight * fade + count * gain)

    def offsets(self) -> FloatArray:
        """Return the amounts to add to estimated qualities, shape [M, K].

        The offset of an LLM is b = r / (w + s) max(0, 1 - g / z^2), with the sums r and w over its clusters,
        `SHRINKAGE` s, `GATE` g and z^2 = r^2 / (w `VARIANCE`): the positive-part James-Stein estimator, so
        that differences within noise change no decision. A cluster adds the same form of what its own answers
        say beyond b, with `CLUSTER_SHRINKAGE`.
        """
        own = _gate(self.residual.sum(1), self.weight.sum(1), SHRINKAGE)[:, None]
        return own + _gate(self.residual - self.weight * own, self.weight, CLUSTER_SHRINKAGE)


def _gate(residual: FloatArray, weight: FloatArray, shrinkage: float) -> FloatArray:
    squared = residual * residual
    noise = GATE * VARIANCE * weight
    gate = np.where(squared > noise, 1 - noise / np.maximum(squared, 1e-300), 0.0)
    return residual / (weight + shrinkage) * gate
