"""The cache of estimates: a repeated query is not estimated again, and the cache stays bounded."""

import numpy as np

from streams.router.estimate_cache import EstimateCache
from streams.router.query_intake import QueryIntake
from tests.streams.router.test_query_intake import DIMENSION, Embedder, Estimator, carried, records


def make_intake(cache: EstimateCache) -> QueryIntake:
    return QueryIntake(Embedder(), DIMENSION, Estimator(), cache=cache)


def test_decode_repeated_prompts_uses_the_estimates_of_the_first():
    intake = make_intake(EstimateCache(10))
    first = intake.decode(records("one", "three"))
    again = intake.decode(records("three", "seventeen", "one", start=2))
    assert intake.embedder.batches == [["one", "three"], ["seventeen"]]
    np.testing.assert_array_equal(again.estimates.quality[[2, 0]], first.estimates.quality)
    np.testing.assert_array_equal(again.estimates.cost[[2, 0]], first.estimates.cost)


def test_decode_lanes_of_a_worker_share_the_cache():
    cache = EstimateCache(10)
    first, second = make_intake(cache), make_intake(cache)
    first.decode(records("one"))
    second.decode(records("one"))
    assert second.embedder.batches == []
    assert (cache.hits, cache.misses) == (1, 1)


def test_decode_same_prompt_with_another_embedding_is_estimated_again():
    intake = make_intake(EstimateCache(10))
    plain, own = records("p", carried(9, 0, 0, 0))
    first = intake.decode([plain]).estimates.quality
    second = intake.decode([own]).estimates.quality
    assert intake.estimator.rows == 2
    assert not np.array_equal(first, second)


def test_decode_cache_keeps_the_queries_that_were_used_last():
    intake = make_intake(EstimateCache(2))
    for prompt in ("a", "bb", "a", "ccc", "a", "bb"):
        intake.decode(records(prompt))
    assert intake.embedder.batches == [["a"], ["bb"], ["ccc"], ["bb"]]


def test_decode_without_entries_keeps_nothing():
    cache = EstimateCache(0)
    intake = make_intake(cache)
    for _ in range(2):
        intake.decode(records("one"))
    assert intake.estimator.rows == 2
    assert len(cache) == 0


def test_decode_rejected_prompt_is_not_kept():
    cache = EstimateCache(10)
    batch = make_intake(cache).decode(records("one", "break"))
    assert len(batch.refused) == 1
    assert len(cache) == 1


def test_decode_queries_with_embeddings_are_not_kept():
    cache = EstimateCache(10)
    plain, own = records("p", carried(9, 0, 0, 0))
    make_intake(cache).decode([plain, own])
    assert (len(cache), cache.misses) == (1, 1)
