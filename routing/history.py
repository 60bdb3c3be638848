"""The history: quality and cost of every LLM on past queries, validated, embedded, saved and loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from routing.estimators.base import FloatArray, QueryBatch
from routing.folder import FolderError, Writer, open_folder, save_folder
from routing.history_rules import (
    COST_SUFFIX,
    RESERVED,
    HistoryError,
    check_lengths,
    check_names,
    check_numbers,
    check_texts,
    named,
)
from routing.index import NeighbourIndex

__all__ = ["EmbeddedHistory", "History", "HistoryError"]

FORMAT = 1
UNIT_TOLERANCE = 2e-3
"""How far from 1 the length of a stored embedding may be: float16 rounding stays well below."""


@dataclass(frozen=True, eq=False)
class History:
    """Answered queries: quality and cost of M LLMs on H prompts (d and g of PORT, arXiv 2509.02718).

    Parameters
    ----------
    ids : sequence of str, length H
        One a query, no two alike.
    prompts : sequence of str, length H
        As the LLMs got them.
    tasks : sequence of str, length H
        Where each query is from, as `mmlu-astronomy`.
    models : sequence of str, length M
        Names of the LLMs, in the order of the columns.
    quality : array_like, shape [H, M]
        In [0, 1].
    cost : array_like, shape [H, M]
        USD, not negative.
    embed_texts : sequence of str, length H, optional
        The texts to embed, where they differ from the prompts (a question without its few-shot prefix).

    Raises
    ------
    HistoryError
        Lengths differ, ids or names appear twice, a quality is outside [0, 1] or a cost below 0, or either is
        not a number. The message names the field, the row, the value and the fix.

    Examples
    --------
    >>> history = History(["a", "b"], ["1 + 1?", "2 + 2?"], ["sums", "sums"], ["small", "large"],
    ...                   quality=[[0, 1], [1, 1]], cost=[[1e-6, 1e-4], [1e-6, 2e-4]])
    >>> len(history), history.with_models(["large"]).quality.tolist()
    (2, [[1.0], [1.0]])
    """

    ids: Sequence[str]
    prompts: Sequence[str]
    tasks: Sequence[str]
    models: Sequence[str]
    quality: FloatArray
    cost: FloatArray
    embed_texts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "prompts", "tasks", "models"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.embed_texts is not None:
            object.__setattr__(self, "embed_texts", tuple(self.embed_texts))
        for name in ("quality", "cost"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.float64, name))
        check_lengths(self.ids, self.prompts, self.tasks, self.embed_texts, self.models)
        check_texts(self.ids, self.prompts, self.tasks, self.embed_texts)
        check_names(self.models)
        check_numbers("quality", self.quality, 1.0, self.ids, self.models)
        check_numbers("cost", self.cost, np.inf, self.ids, self.models)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def texts(self) -> Sequence[str]:
        """What is to be embedded: `embed_texts` where given, else the prompts."""
        return self.prompts if self.embed_texts is None else self.embed_texts

    def select(self, rows: ArrayLike) -> History:
        """The history of some rows, in the order given.

        Parameters
        ----------
        rows : array_like of int, or of bool with shape [H]
            Rows of this history; none twice.
        """
        index = np.arange(len(self))[np.asarray(rows)]
        return History(
            ids=[self.ids[i] for i in index],
            prompts=[self.prompts[i] for i in index],
            tasks=[self.tasks[i] for i in index],
            models=self.models,
            quality=self.quality[index],
            cost=self.cost[index],
            embed_texts=None if self.embed_texts is None else [self.embed_texts[i] for i in index],
        )

    def with_models(self, names: Iterable[str]) -> History:
        """The history of those LLMs of `names` that it knows, in the order of `names`.

        Raises
        ------
        HistoryError
            It knows none of them.
        """
        wanted = tuple(names)
        column = {name: i for i, name in enumerate(self.models)}
        known = [name for name in wanted if name in column]
        if not known:
            raise HistoryError(
                f"models: no LLM in common with {named(wanted)}; the history has {named(self.models)}. "
                "Name the LLMs in the catalogue as the history's columns do"
            )
        index = [column[name] for name in known]
        return History(
            self.ids,
            self.prompts,
            self.tasks,
            known,
            self.quality[:, index],
            self.cost[:, index],
            self.embed_texts,
        )

    def digest(self) -> str:
        """sha256 (hex) of all that is in it; equal histories have equal digests on every machine."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.sha256()
        for texts in (self.models, self.ids, self.prompts, self.tasks, self.embed_texts):
            _hash_texts(hasher, texts)
        for numbers in (self.quality, self.cost):
            hasher.update(np.ascontiguousarray(numbers, dtype="<f8").tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True, eq=False)
class EmbeddedHistory:
    """A history and the embeddings of its texts, bound to the embedder that made them.

    Parameters
    ----------
    history : History
        H answered queries.
    embeddings : array_like of float32, shape [H, d]
        One unit vector a row.
    embedder : str
        The `identity` of the embedder that made the vectors.

    Raises
    ------
    HistoryError
        The shape does not fit, a value is not finite, or a row is not of unit length.
    """

    history: History
    embeddings: NDArray[np.float32]
    embedder: str

    def __post_init__(self) -> None:
        vectors = _frozen(self.embeddings, np.float32, "embeddings")
        object.__setattr__(self, "embeddings", vectors)
        if vectors.ndim != 2 or len(vectors) != len(self.history):
            raise HistoryError(
                f"embeddings: shape {vectors.shape} is not [rows, dimensions] for {len(self.history)} rows"
            )
        if not self.embedder:
            raise HistoryError("embedder: empty; give the identity of the embedder that made the vectors")
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        bad = ~(np.abs(lengths - 1) <= UNIT_TOLERANCE)
        if bad.any():
            row = int(np.argmax(bad))
            raise HistoryError(
                f"embeddings: row {row} (id {self.history.ids[row]!r}) has length {lengths[row]}, not 1; "
                "normalise with routing.unit.normalised, or embed the row again"
            )

    def __len__(self) -> int:
        return len(self.history)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the LLMs, in the order of the columns."""
        return tuple(self.history.models)

    @property
    def dimension(self) -> int:
        """Length d of an embedding."""
        return int(self.embeddings.shape[1])

    def batch(self, rows: ArrayLike | slice = slice(None)) -> QueryBatch:
        """The history's own rows as queries."""
        if isinstance(rows, slice):
            return QueryBatch(self.history.prompts[rows], self.embeddings[rows])
        index = np.arange(len(self))[np.asarray(rows)]
        return QueryBatch([self.history.prompts[i] for i in index], self.embeddings[index])

    def select(self, rows: ArrayLike) -> EmbeddedHistory:
        """Some rows, in the order given."""
        index = np.arange(len(self))[np.asarray(rows)]
        return EmbeddedHistory(self.history.select(index), self.embeddings[index], self.embedder)

    def with_models(self, names: Iterable[str]) -> EmbeddedHistory:
        """Some LLMs, as `History.with_models`."""
        return EmbeddedHistory(self.history.with_models(names), self.embeddings, self.embedder)

    def digest(self) -> str:
        """sha256 (hex) of history, embeddings and the embedder's identity."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.sha256()
        _hash_texts(hasher, (self.history.digest(), self.embedder, str(self.dimension)))
        hasher.update(np.ascontiguousarray(self.embeddings, dtype="<f4").tobytes())
        return hasher.hexdigest()

    def save(self, folder: str | Path, index: NeighbourIndex | None = None) -> None:
        """Save to a folder: rows as parquet in RouterBench's columns, vectors as .npy, an index where given.

        Whatever interrupts it, the folder holds the old history or the new one. An exact index is not worth
        saving, as it is built faster than read; a graph is.

        Parameters
        ----------
        folder : path
            Made where missing.
        index : NeighbourIndex, optional
            Of these very embeddings.
        """
        facts = {
            "format": FORMAT,
            "digest": self.digest(),
            "embedder": self.embedder,
            "dimension": self.dimension,
            "rows": len(self),
            "models": list(self.models),
        }
        table = _to_table(self.history)
        writers: dict[str, Writer] = {
            "history.parquet": lambda file: pq.write_table(table, file),
            "embeddings.npy": lambda file: np.save(file, self.embeddings),
        }
        if index is not None:
            if not index.holds(self.embeddings):
                raise HistoryError("index: made from other embeddings; build it from this history's")
            facts["index"] = index.kind
            writers["index.faiss"] = index.write
        save_folder(folder, facts, writers)

    @classmethod
    def load(cls, folder: str | Path, embedder: str | None = None) -> EmbeddedHistory:
        """Load what `save` saved, and check that it is that.

        Parameters
        ----------
        folder : path
            The folder.
        embedder : str, optional
            The `identity` of the embedder that new queries will be embedded with; a history embedded by
            another one is refused, as similarities between the two mean nothing.

        Raises
        ------
        FileNotFoundError
            There is no saved history.
        HistoryError
            Another embedder's, an unknown format, or data that does not match its digest.
        """
        stored = open_folder(folder)
        facts = stored.facts
        if facts.get("format") != FORMAT:
            raise HistoryError(
                f"{folder}: format: {facts.get('format')!r} is not {FORMAT}; save it with this version"
            )
        made_by = facts["embedder"]
        if embedder is not None and made_by != embedder:
            raise HistoryError(
                f"{folder}: embedder: the history was embedded by {made_by!r}, queries by {embedder!r}; "
                "use that model (and its token limit), or embed the history again"
            )
        try:
            table = pq.read_table(stored.path("history.parquet"))
            with open(stored.path("embeddings.npy"), "rb") as file:
                vectors = np.load(file, allow_pickle=False)
        except FolderError as error:
            raise HistoryError(str(error)) from None
        embedded = cls(_from_table(table, facts["models"]), vectors, made_by)
        if embedded.digest() != facts["digest"]:
            raise HistoryError(
                f"{folder}: digest: the manifest says {facts['digest'][:16]}..., the data is "
                f"{embedded.digest()[:16]}...; save the history again"
            )
        return embedded

    def load_index(self, folder: str | Path, threads: int = 1) -> NeighbourIndex | None:
        """The index that was saved with this history, or None where there is none.

        Raises
        ------
        HistoryError
            The index was changed, or is of other embeddings.
        """
        stored = open_folder(folder)
        if "index.faiss" not in stored:
            return None
        try:
            index = NeighbourIndex.read(stored.path("index.faiss"), stored.facts["index"], threads)
        except FolderError as error:
            raise HistoryError(str(error)) from None
        if not index.holds(self.embeddings):
            raise HistoryError(
                f"{folder}: index: made from other embeddings; save the history with its index"
            )
        return index


def _to_table(history: History) -> pa.Table:
    columns: dict[str, object] = {
        "sample_id": pa.array(history.ids, pa.large_string()),
        "prompt": pa.array(history.prompts, pa.large_string()),
        "eval_name": pa.array(history.tasks, pa.large_string()),
    }
    if history.embed_texts is not None:
        columns["query"] = pa.array(history.embed_texts, pa.large_string())
    for i, model in enumerate(history.models):
        columns[model] = pa.array(history.quality[:, i])
        columns[model + COST_SUFFIX] = pa.array(history.cost[:, i])
    return pa.table(columns)


def _from_table(table: pa.Table, models: Sequence[str]) -> History:
    numbers = {name: table.column(name).to_numpy() for name in table.column_names if name not in RESERVED}
    return History(
        ids=table.column("sample_id").to_pylist(),
        prompts=table.column("prompt").to_pylist(),
        tasks=table.column("eval_name").to_pylist(),
        models=models,
        quality=np.stack([numbers[name] for name in models], axis=1),
        cost=np.stack([numbers[name + COST_SUFFIX] for name in models], axis=1),
        embed_texts=table.column("query").to_pylist() if "query" in table.column_names else None,
    )


def _frozen(values: ArrayLike, kind: type, name: str) -> NDArray:
    try:
        array: NDArray = np.array(values, dtype=kind, order="C")
    except (TypeError, ValueError) as error:
        raise HistoryError(f"{name}: {error}; give numbers only") from None
    array.setflags(write=False)
    return array


def _hash_texts(hasher: hashlib._Hash, texts: Sequence[str] | None) -> None:
    # a length before every text, so that no two lists of texts give the same bytes
    if texts is None:
        hasher.update(b"none")
        return
    hasher.update(f"{len(texts)}:".encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hasher.update(f"{len(data)}:".encode())
        hasher.update(data)
