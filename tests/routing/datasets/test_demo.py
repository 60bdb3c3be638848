import numpy as np

from routing.datasets.demo import EMBEDDER, FIT, TABLE, load_demo
from routing.datasets.routerbench_table import load_tabular
from routing.embedding.embedder import load_embedder
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.fitting.saved_fit import load_fitted


def test_demo_has_2000_history_rows_and_1000_queries():
    history, queries = load_demo()
    assert (len(history), len(queries), history.dimension) == (2000, 1000, 384)
    assert history.models == tuple(queries.models)
    assert len(history.models) == 16
    assert not set(history.history.ids) & set(queries.ids)
    rows = load_tabular(TABLE)
    order = np.random.default_rng(0).permutation(3000)
    assert queries.ids == rows.select(order[:1000]).ids


def test_demo_embeddings_are_of_the_default_embedder():
    assert load_embedder().identity == EMBEDDER


def test_demo_includes_its_notice():
    notice = (TABLE.parent / "NOTICE").read_text()
    for word in ("MMLU-Pro", "TIGER-AI-Lab", "MIT", "Apache-2.0", "2024-12"):
        assert word in notice


def test_demo_comes_with_a_fit_of_its_history():
    history, queries = load_demo()
    shipped = load_fitted(FIT)
    assert shipped.history.history.texts == history.history.texts

    preset, _ = choose_preset(len(history), "fast")
    again = fit(history.history, preset, embeddings=history.embeddings, loaded=shipped.embedder)
    texts = queries.texts[:50]
    estimates, expected = (one.estimator.estimate(one.embedder.embed(texts)) for one in (shipped, again))
    np.testing.assert_allclose(estimates.quality, expected.quality, atol=0.01)
    np.testing.assert_allclose(estimates.cost, expected.cost, rtol=0.02)
