"""Task clusters: separation, determinism, few rows."""

import numpy as np

from routing.embedding.unit_vectors import normalised
from routing.feedback.clusters import fit_clusters


def blobs(rows=60, kinds=4, seed=0):
    random = np.random.default_rng(seed)
    kind = random.integers(kinds, size=rows)
    vectors = np.eye(kinds, 16)[kind] + random.normal(0, 0.05, (rows, 16))
    return kind, normalised(vectors.astype(np.float32))


def test_nearest_separates_groups_of_similar_texts():
    kind, vectors = blobs()
    label = fit_clusters(vectors, 4).nearest(vectors)
    pairs = {(int(a), int(b)) for a, b in zip(kind, label, strict=True)}
    assert len(pairs) == 4


def test_fit_clusters_again_gives_the_same_digest_and_other_rows_another():
    _, vectors = blobs()
    assert fit_clusters(vectors, 4).digest == fit_clusters(vectors.copy(), 4).digest
    assert fit_clusters(vectors, 4).digest != fit_clusters(blobs(seed=1)[1], 4).digest


def test_fit_clusters_of_fewer_or_equal_rows_has_no_more_centres_than_rows():
    _, vectors = blobs(rows=3)
    assert len(fit_clusters(vectors, 8)) == 3
    same = np.repeat(vectors[:1], 5, axis=0)
    assert fit_clusters(same, 2).nearest(same).tolist() == [0] * 5
