import numpy as np

from routing.datasets import load_demo
from routing.datasets.demo import EMBEDDER, TABLE
from routing.datasets.tabular import load_tabular
from routing.embedding import load_embedder


def test_the_demo_is_two_thousand_rows_of_history_and_a_thousand_queries():
    history, queries = load_demo()
    assert (len(history), len(queries), history.dimension) == (2000, 1000, 384)
    assert history.models == tuple(queries.models)
    assert len(history.models) == 16
    assert not set(history.history.ids) & set(queries.ids)
    rows = load_tabular(TABLE)
    order = np.random.default_rng(0).permutation(3000)
    assert queries.ids == rows.select(order[:1000]).ids


def test_its_embeddings_are_of_the_default_embedder():
    assert load_embedder().identity == EMBEDDER


def test_its_notice_is_beside_it():
    notice = (TABLE.parent / "NOTICE").read_text()
    for word in ("MMLU-Pro", "TIGER-AI-Lab", "MIT", "Apache-2.0", "2024-12"):
        assert word in notice
