"""The folder of a prepared replay: queries with true answers, history, catalogue and settings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from routing.budgets.splits import SHARED, split_budget, total_budget
from routing.datasets.load import load_dataset
from routing.embedding.unit_vectors import normalised
from routing.history.history import EmbeddedHistory, History
from routing.history.nearest import NeighbourIndex
from routing.history.rules import COST_SUFFIX
from streams.config.catalogue_file import (
    read_catalogue,
)
from streams.config.env_files import format_variables

QUERIES, VECTORS, HISTORY = "queries.parquet", "queries.npy", "history"
CARRIED, REFERENCE = "carried.npy", "reference"
CATALOGUE, VARIABLES, ORIGIN = "catalogue.yaml", "settings.env", "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """Data of a replay.

    Parameters
    ----------
    queries : History
        The queries in the order of the split, with the true quality and cost (USD) of every LLM.
    embeddings : ndarray of float32, shape [n, d], or None
        Embeddings of the queries, if given or computed.
    history : EmbeddedHistory
        The rest of the data set, from which the router estimates.
    catalogue : Catalogue
        The LLMs, and a budget (USD) for each or one total.
    origin : dict
        Origin of the data: data set, seed, budget factor and so on.
    carried : ndarray of float32, shape [n, e], or None
        Embeddings for messages to carry, if the router's embedder differs from that of `history` and
        `embeddings`, which are used to compare results.
    """

    queries: History
    embeddings: NDArray[np.float32] | None
    history: EmbeddedHistory
    catalogue: Catalogue
    origin: dict[str, Any]
    carried: NDArray[np.float32] | None = None

    def save(self, folder: Path, variables: Mapping[str, str]) -> None:
        """Write the folder, including `settings.env` with the worker's variables for this replay.

        If the variables request a graph of neighbours, it is built now and saved with the history.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # an older fit in this folder must not be used for this data
        for name in (HISTORY, REFERENCE):
            shutil.rmtree(folder / name, ignore_errors=True)
        graph = None
        if variables.get("PORT_INDEX") == "hnsw" and variables.get("PORT_PRESET") == "paper":
            graph = NeighbourIndex(self.history.embeddings, "hnsw")
        self.history.save(folder / (HISTORY if self.carried is None else REFERENCE), graph)
        pq.write_table(_table(self.queries), folder / QUERIES)
        for name, vectors in ((VECTORS, self.embeddings), (CARRIED, self.carried)):
            (folder / name).unlink(missing_ok=True)
            if vectors is not None:
                save_vectors(folder, vectors, name)
        text = yaml.safe_dump(self.catalogue.to_dict(), sort_keys=False, allow_unicode=True)
        (folder / CATALOGUE).write_text(text, encoding="utf-8")
        (folder / ORIGIN).write_bytes(orjson.dumps(self.origin, option=orjson.OPT_INDENT_2))
        base = folder.resolve()
        all_variables = {"PORT_CATALOGUE": str(base / CATALOGUE), "PORT_HISTORY": str(base / HISTORY)}
        (folder / VARIABLES).write_text(format_variables(all_variables | dict(variables)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Read a folder that `save` wrote.

        Raises
        ------
        FileNotFoundError
            The folder was not written by `producers.prepare`.
        """
        if not (folder / QUERIES).exists():
            raise FileNotFoundError(
                f"{folder}: has no {QUERIES}; create it with `python -m producers.prepare --out {folder}`"
            )
        reference = folder / REFERENCE
        return cls(
            load_dataset(folder / QUERIES),
            _vectors(folder / VECTORS),
            EmbeddedHistory.load(reference if reference.exists() else folder / HISTORY),
            read_catalogue(folder / CATALOGUE),
            orjson.loads((folder / ORIGIN).read_bytes()),
            _vectors(folder / CARRIED),
        )


def _table(queries: History) -> pa.Table:
    """Return the queries in RouterBench's columns, which `load_dataset` reads."""
    columns: dict[str, Any] = {
        "sample_id": list(queries.ids),
        "prompt": list(queries.prompts),
        "eval_name": list(queries.tasks),
    }
    if queries.embed_texts is not None:
        columns["query"] = list(queries.embed_texts)
    for number, model in enumerate(queries.models):
        columns[model] = queries.quality[:, number]
        columns[model + COST_SUFFIX] = queries.cost[:, number]
    return pa.table(columns)


def _vectors(path: Path) -> NDArray[np.float32] | None:
    return normalised(np.load(path, allow_pickle=False)) if path.exists() else None


def save_vectors(folder: Path, embeddings: NDArray[np.float32], name: str = VECTORS) -> None:
    """Save the queries' embeddings as float16, the type that messages carry."""
    with open(folder / "queries.part", "wb") as file:
        np.save(file, embeddings.astype("<f2"))
    shutil.move(folder / "queries.part", folder / name)


def budgeted_catalogue(
    queries: History, history: History, factor: float, how: str, seed: int = 0
) -> Catalogue:
    """Return a catalogue of the data set's LLMs with the total of the paper's experiments.

    The total is `factor` times the cost of the cheapest LLM for all queries, split by means over the history
    (PORT, arXiv 2509.02718, section 4), or shared if `how` is "shared".
    """
    total = total_budget(queries.cost, factor)
    if how == SHARED:
        return Catalogue(tuple(Model(name) for name in queries.models), budget_usd=total)
    shares = split_budget(total, history.quality.mean(0), history.cost.mean(0), how, seed=seed)
    models = zip(queries.models, shares, strict=True)
    return Catalogue(tuple(Model(name, budget_usd=float(budget)) for name, budget in models))
