"""Small prepared data sets with embeddings: real answers, few rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from producers.prepared import VARIABLES, Prepared, budgeted_catalogue
from routing.datasets import load_dataset, load_demo
from routing.embedding import DEFAULT, load_embedder, normalised
from routing.history import EmbeddedHistory
from tests.end_to_end.workers import ROOT

SHARED = Path(os.environ.get("PORT_SHARED", ROOT.parent / "shared")) / "data"


@dataclass(frozen=True)
class Small:
    """A prepared folder.

    Parameters
    ----------
    name : str
        Of the data set: "open_llm_v2", "routerbench_subset", or "demo" where that file is not there.
    folder : Path
    prepared : Prepared
    """

    name: str
    folder: Path
    prepared: Prepared

    @property
    def variables(self) -> dict[str, str]:
        """What a worker has to be told."""
        pairs = (line.split("=", 1) for line in (self.folder / VARIABLES).read_text().splitlines())
        return {name: value.strip("'") for name, value in pairs}


def whole(name: str) -> tuple[str, EmbeddedHistory]:
    """A data set with embeddings: the asked one, else the demo's history, which the project ships."""
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
        Rows; fewer where the data set has fewer.
    factor : float
        Times what the cheapest LLM would cost.
    models : int, optional
        Only the first so many LLMs.
    """
    found, data = whole(name)
    if models is not None:
        data = data.with_models(data.models[:models])
    order = np.random.default_rng(0).permutation(len(data))
    queries = min(queries, len(data) // 2)
    asked, known = order[:queries], order[queries : queries + history]
    rest = EmbeddedHistory(data.history.select(known), data.embeddings[known], data.embedder)
    rows = data.history.select(asked)
    catalogue = budgeted_catalogue(rows, rest.history, factor, "weighted")
    prepared = Prepared(rows, data.embeddings[asked], rest, catalogue, {"dataset": found})
    prepared.save(folder, {"PORT_HORIZON": str(queries), "PORT_PRESET": "paper"})
    return Small(found, folder, Prepared.load(folder))
