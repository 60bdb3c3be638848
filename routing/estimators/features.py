"""The features that kernels work on: the embedding beside standardised cues of the prompt's form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.cues import COUNTS, CUES, text_features
from routing.estimators.base import FloatArray, QueryBatch

Float32Array = NDArray[np.float32]

CUE_WEIGHT = 0.2
"""Weight of a standardised cue beside the unit embedding."""

CLIP = 4.0


def features_of_batch(batch: QueryBatch) -> FloatArray:
    """Counts and cues [n, 38] of a batch: the embedder's, where it had them, else made here."""
    if batch.counts is not None:
        return batch.counts
    return text_features(batch.prompts)


@dataclass(frozen=True)
class FormFeatures:
    """Puts z = [e, w c] together: unit embedding e, and w times the cues c, standardised on the history.

    Parameters
    ----------
    mean, scale : ndarray of float64, shape [27]
        Of the history's cues.
    weight : float
        w; 0 leaves the cues out.
    """

    mean: FloatArray
    scale: FloatArray
    weight: float

    @classmethod
    def fit(cls, features: FloatArray, weight: float = CUE_WEIGHT) -> FormFeatures:
        """Standardise on the history's counts and cues, [H, 38]."""
        cues = features[:, len(COUNTS) :]
        return cls(cues.mean(axis=0), cues.std(axis=0) + 1e-9, weight)

    def rows(self, embeddings: Float32Array, features: FloatArray) -> Float32Array:
        """z of each query, [n, d + 27] (or the embeddings alone without cues)."""
        if not self.weight:
            return np.ascontiguousarray(embeddings, np.float32)
        width = embeddings.shape[1]
        out = np.empty((len(embeddings), width + len(CUES)), np.float32)
        out[:, :width] = embeddings
        cues = (features[:, len(COUNTS) :] - self.mean) / self.scale
        out[:, width:] = self.weight * np.clip(cues, -CLIP, CLIP)
        return out
