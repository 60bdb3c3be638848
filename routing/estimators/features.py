"""Features of the kernels: the embedding and standardised cues of the prompt's form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing.arrays import Float32Array, FloatArray
from routing.embedding.bytes_embedder import BytesEmbedder
from routing.embedding.query_batch import QueryBatch
from routing.embedding.text_features import COUNTS, CUES, text_features

CUE_WEIGHT = 0.2
"""Weight of a standardised cue beside the unit embedding."""

CLIP = 4.0


def features_of_batch(batch: QueryBatch) -> FloatArray:
    """Return counts and cues, [n, 38], of a batch; those of the embedder if it has them."""
    if batch.counts is not None:
        return batch.counts
    return text_features(batch.prompts)


@dataclass(frozen=True)
class FormFeatures:
    """Builds z = [e, w c]: unit embedding e, and w times the cues c, standardised on the history.

    With a table of words, e is [e, b] / sqrt(2), b being the unit embedding of the prompt's words. It covers
    the whole prompt, while a neural model reads only its first 256 tokens.

    Parameters
    ----------
    mean, scale : ndarray of float64, shape [27]
        Of the history's cues.
    weight : float
        w; 0 leaves the cues out.
    words : BytesEmbedder, optional
        Embeds the prompts' words.
    """

    mean: FloatArray
    scale: FloatArray
    weight: float
    words: BytesEmbedder | None = None

    @classmethod
    def fit(
        cls, features: FloatArray, weight: float = CUE_WEIGHT, words: BytesEmbedder | None = None
    ) -> FormFeatures:
        """Fit the standardisation to the history's counts and cues, [H, 38]."""
        cues = features[:, len(COUNTS) :]
        return cls(cues.mean(axis=0), cues.std(axis=0) + 1e-9, weight, words)

    def of(self, batch: QueryBatch) -> tuple[Float32Array, FloatArray]:
        """Return rows of the kernel, [n, D], and counts and cues, [n, 38], of a batch."""
        if self.words is None:
            features = features_of_batch(batch)
            return self.rows(batch.embeddings, features), features
        word_batch = self.words.embed(batch.prompts)
        features = features_of_batch(word_batch if batch.counts is None else batch)
        joined = np.hstack([batch.embeddings, word_batch.embeddings]) * np.float32(np.sqrt(0.5))
        return self.rows(joined, features), features

    def rows(self, embeddings: Float32Array, features: FloatArray) -> Float32Array:
        """Return z of each query, [n, d + 27], or the embeddings if the cues have no weight."""
        if not self.weight:
            return np.ascontiguousarray(embeddings, np.float32)
        width = embeddings.shape[1]
        out = np.empty((len(embeddings), width + len(CUES)), np.float32)
        out[:, :width] = embeddings
        cues = (features[:, len(COUNTS) :] - self.mean) / self.scale
        out[:, width:] = self.weight * np.clip(cues, -CLIP, CLIP)
        return out
