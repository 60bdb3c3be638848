"""ParetoBandit's features, for its own environment too: no other package of the laboratory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FIRST_SEED = 42
"""Seed of ParetoBandit's first trial; its demo uses 42, 43, ..."""


def features_of(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ParetoBandit's features of MiniLM embeddings: 25 whitened principal components, and 1."""
    import joblib
    import pareto_bandit

    artifact = Path(pareto_bandit.__file__).parent / "data" / "artifacts" / "pca_25.joblib"
    pca = joblib.load(artifact)
    components = pca.transform(np.asarray(embeddings, np.float64))
    if not pca.whiten:
        components = components / np.sqrt(pca.explained_variance_)
    return np.hstack([components, np.ones((len(components), 1))])
