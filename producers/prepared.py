"""A prepared replay: a folder with queries and their true answers, history, catalogue and settings."""

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

from routing.budgets import split_budget, total_budget
from routing.catalogue import Catalogue, Model
from routing.datasets import load_dataset
from routing.embedding import normalised
from routing.history import COST_SUFFIX, EmbeddedHistory, History
from routing.index import NeighbourIndex
from streams.settings import read_catalogue

QUERIES, VECTORS, HISTORY = "queries.parquet", "queries.npy", "history"
CARRIED, REFERENCE = "carried.npy", "reference"
CATALOGUE, VARIABLES, ORIGIN = "catalogue.yaml", "settings.env", "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """What a replay needs.

    Parameters
    ----------
    queries : History
        The queries in the order of the split, with the true quality and cost (USD) of every LLM.
    embeddings : ndarray of float32, shape [n, d], or None
        Of the queries, where they were given or made.
    history : EmbeddedHistory
        The rest of the data set: what the router estimates from.
    catalogue : Catalogue
        The LLMs with a budget (USD) for each.
    origin : dict
        How it was made: data set, seed, budget factor and so on.
    carried : ndarray of float32, shape [n, e], or None
        Embeddings for messages to carry, where the router's embedder is another than the one that `history`
        and `embeddings` are of, which results are compared by.
    """

    queries: History
    embeddings: NDArray[np.float32] | None
    history: EmbeddedHistory
    catalogue: Catalogue
    origin: dict[str, Any]
    carried: NDArray[np.float32] | None = None

    def save(self, folder: Path, variables: Mapping[str, str]) -> None:
        """Writes the folder, with `settings.env`: the variables that a worker for this replay needs.

        Where these ask for a graph of neighbours it is built now, and saved with the history.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # a fit that was saved there before would be taken for this one's
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
        here = folder.resolve()
        all_variables = {"PORT_CATALOGUE": str(here / CATALOGUE), "PORT_HISTORY": str(here / HISTORY)}
        lines = [f"{name}='{value}'\n" for name, value in {**all_variables, **variables}.items()]
        (folder / VARIABLES).write_text("".join(lines), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Reads what `save` wrote.

        Raises
        ------
        FileNotFoundError
            The folder is none that `producers.prepare` made.
        """
        if not (folder / QUERIES).exists():
            raise FileNotFoundError(
                f"{folder}: has no {QUERIES}; make it with `python -m producers.prepare --out {folder}`"
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
    """In RouterBench's columns, as `load_dataset` reads them."""
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
    """Keeps the queries' embeddings, as float16, which is what messages carry."""
    with open(folder / "queries.part", "wb") as file:
        np.save(file, embeddings.astype("<f2"))
    shutil.move(folder / "queries.part", folder / name)


def split_rows(rows: int, queries: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which rows of a data set are queries and which are history, by the split of the published experiments.

    Parameters
    ----------
    rows, queries : int
    seed : int
        Of numpy's `default_rng`; the first rows of its permutation are the queries, in that order.

    Returns
    -------
    queries : ndarray of int, shape [queries]
    history : ndarray of int, shape [rows - queries]

    Raises
    ------
    ValueError
        Nothing would be left for the history.

    Examples
    --------
    >>> split_rows(4, 3, seed=0)
    (array([2, 0, 1]), array([3]))
    """
    if not 0 < queries < rows:
        raise ValueError(f"queries: {queries} must be between 1 and {rows - 1}, for the rest is the history")
    order = np.random.default_rng(seed).permutation(rows)
    return order[:queries], order[queries:]


def budgeted_catalogue(
    queries: History, history: History, factor: float, how: str, seed: int = 0
) -> Catalogue:
    """A catalogue of the data set's LLMs, budgeted as in the paper's experiments.

    In total `factor` times what the cheapest LLM would cost for all the queries; split by means over the
    history (PORT, arXiv 2509.02718, section 4).
    """
    total = total_budget(queries.cost, factor)
    shares = split_budget(total, history.quality.mean(0), history.cost.mean(0), how, seed=seed)
    models = zip(queries.models, shares, strict=True)
    return Catalogue(tuple(Model(name, budget_usd=float(budget)) for name, budget in models))
