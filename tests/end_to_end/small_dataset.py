"""Small prepared data sets with embeddings: real answers, few rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from producers.evaluation.prepared_data import VARIABLES, Prepared, budgeted_catalogue
from routing.datasets.demo import load_demo
from routing.datasets.load import load_dataset
from routing.embedding.embedder import load_embedder
from routing.embedding.model_files import DEFAULT
from routing.embedding.unit_vectors import normalised
from routing.history.history import EmbeddedHistory
from tests.end_to_end.worker_process import ROOT

SHARED = Path(os.environ.get("PORT_SHARED", ROOT.parent / "shared")) / "data"


@dataclass(frozen=True)
class Small:
    """A prepared folder.

    Parameters
    ----------
    name : str
        Name of the data set: "open_llm_v2", "routerbench_subset", or "demo" if their files are missing.
    folder : Path
    prepared : Prepared
    """

    name: str
    folder: Path
    prepared: Prepared

    @property
    def variables(self) -> dict[str, str]:
        """Variables of a worker."""
        pairs = (line.split("=", 1) for line in (self.folder / VARIABLES).read_text().splitlines())
        return {name: value.strip("'") for name, value in pairs}


def load_embedded(name: str) -> tuple[str, EmbeddedHistory]:
    """Return a data set with embeddings, or the demo's history, which is part of the project."""
    if not (SHARED / f"{name}.parquet").exists():
        return "demo", load_demo()[0]
    vectors = normalised(np.load(SHARED / f"{name}.minilm.f16.npy"))
    data = load_dataset(SHARED / f"{name}.parquet")
    return name, EmbeddedHistory(data, vectors, load_embedder(DEFAULT).identity)


def make_small(
    folder: Path, name: str, queries: int, history: int, factor: float = 1.0, models: int | None = None
) -> Small:
    """Prepare some rows of a data set as queries and others as history.

    Parameters
    ----------
    folder : Path
    name : str
    queries, history : int
        Numbers of rows; fewer if the data set is smaller.
    factor : float
        Multiple of the cheapest LLM's cost.
    models : int, optional
        Number of LLMs; the first ones are kept.
    """
    source, data = load_embedded(name)
    if models is not None:
        data = data.with_models(data.models[:models])
    order = np.random.default_rng(0).permutation(len(data))
    queries = min(queries, len(data) // 2)
    query_rows, history_rows = order[:queries], order[queries : queries + history]
    rest = EmbeddedHistory(data.history.select(history_rows), data.embeddings[history_rows], data.embedder)
    rows = data.history.select(query_rows)
    catalogue = budgeted_catalogue(rows, rest.history, factor, "weighted")
    prepared = Prepared(rows, data.embeddings[query_rows], rest, catalogue, {"dataset": source})
    prepared.save(folder, {"PORT_HORIZON": str(queries), "PORT_PRESET": "paper"})
    return Small(source, folder, Prepared.load(folder))
