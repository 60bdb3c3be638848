"""History: quality and cost of every LLM on past queries, with validation, embeddings and storage."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing.arrays import FloatArray
from routing.embedding.query_batch import QueryBatch
from routing.history.nearest import NeighbourIndex
from routing.history.rules import (
    HistoryError,
    check_lengths,
    check_names,
    check_numbers,
    check_texts,
    named,
    row_name,
)
from routing.history.storage import FolderError, Writer, open_folder, save_folder

FORMAT = 2
TEXTS_FILE, QUALITY_FILE, COST_FILE = "history.json.gz", "quality.npy", "cost.npy"
_TEXT_FIELDS = ("ids", "prompts", "tasks", "embed_texts")

UNIT_TOLERANCE = 2e-3
"""Maximum distance of a stored embedding's length from 1; rounding to float16 stays well below it."""


@dataclass(frozen=True, eq=False)
class History:
    """Answered queries: quality and cost of M LLMs on H prompts (d and g of PORT, arXiv 2509.02718).

    Parameters
    ----------
    ids : sequence of str, length H
        One per query, without duplicates.
    prompts : sequence of str, length H
        As sent to the LLMs.
    tasks : sequence of str, length H
        Source of each query, such as `mmlu-astronomy`.
    models : sequence of str, length M
        Names of the LLMs, in the order of the columns.
    quality : array_like, shape [H, M]
        In [0, 1].
    cost : array_like, shape [H, M]
        USD, not negative.
    embed_texts : sequence of str, length H, optional
        The texts to embed, if they differ from the prompts (a question without its few-shot prefix).

    Raises
    ------
    HistoryError
        Lengths differ, ids or names are duplicates, a quality is outside [0, 1], a cost is below 0, or a
        value is no number. The message names the field, the row (from 1), the value and the fix.

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
        """The texts to embed: `embed_texts` if given, otherwise the prompts."""
        return self.prompts if self.embed_texts is None else self.embed_texts

    def select(self, rows: ArrayLike) -> History:
        """Return the history of some rows, in the given order.

        Parameters
        ----------
        rows : array_like of int, or of bool with shape [H]
            Rows of this history, without duplicates.
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
        """Return the history of the known LLMs of `names`, in the order of `names`.

        Raises
        ------
        HistoryError
            No LLM of `names` is known.
        """
        requested = tuple(names)
        column = {name: i for i, name in enumerate(self.models)}
        common = [name for name in requested if name in column]
        if not common:
            raise HistoryError(
                f"models: no LLM in common with {named(requested)}; the history has {named(self.models)}. "
                "Name the LLMs in the catalogue as the history's columns do"
            )
        index = [column[name] for name in common]
        return History(
            self.ids,
            self.prompts,
            self.tasks,
            common,
            self.quality[:, index],
            self.cost[:, index],
            self.embed_texts,
        )

    def digest(self) -> str:
        """Return the sha256 (hex) of the content; equal histories have equal digests on every machine."""
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
        One unit vector per row.
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
                f"embeddings: {row_name(row)} (id {self.history.ids[row]!r}) has length {lengths[row]}, "
                "not 1; normalise with routing.embedding.unit_vectors.normalised, or embed the row again"
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
        """Return rows of the history as queries."""
        if isinstance(rows, slice):
            return QueryBatch(self.history.prompts[rows], self.embeddings[rows])
        index = np.arange(len(self))[np.asarray(rows)]
        return QueryBatch([self.history.prompts[i] for i in index], self.embeddings[index])

    def select(self, rows: ArrayLike) -> EmbeddedHistory:
        """Return some rows, in the given order."""
        index = np.arange(len(self))[np.asarray(rows)]
        return EmbeddedHistory(self.history.select(index), self.embeddings[index], self.embedder)

    def with_models(self, names: Iterable[str]) -> EmbeddedHistory:
        """Return the history of some LLMs; see `History.with_models`."""
        return EmbeddedHistory(self.history.with_models(names), self.embeddings, self.embedder)

    def digest(self) -> str:
        """Return the sha256 (hex) of history, embeddings and the embedder's identity."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.sha256()
        _hash_texts(hasher, (self.history.digest(), self.embedder, str(self.dimension)))
        hasher.update(np.ascontiguousarray(self.embeddings, dtype="<f4").tobytes())
        return hasher.hexdigest()

    def save(self, folder: str | Path, index: NeighbourIndex | None = None) -> None:
        """Save to a folder: texts as compressed JSON, numbers as .npy, and an index if given.

        After any interruption the folder holds the old history or the new one. Saving an index is only useful
        for a graph: an exact index is built faster than read.

        Parameters
        ----------
        folder : path
            Created if missing.
        index : NeighbourIndex, optional
            Made from these embeddings.
        """
        facts = {
            "format": FORMAT,
            "digest": self.digest(),
            "embedder": self.embedder,
            "dimension": self.dimension,
            "rows": len(self),
            "models": list(self.models),
        }
        history = self.history
        writers: dict[str, Writer] = {
            TEXTS_FILE: lambda file: file.write(_pack_texts(history)),
            QUALITY_FILE: lambda file: np.save(file, history.quality),
            COST_FILE: lambda file: np.save(file, history.cost),
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
        """Load a saved history and check its digest.

        Parameters
        ----------
        folder : path
            The folder.
        embedder : str, optional
            The `identity` of the embedder of new queries. A history of another embedder is rejected, because
            similarities between the two are meaningless.

        Raises
        ------
        FileNotFoundError
            The folder has no saved history.
        HistoryError
            The embedder or the format differs, or the data does not match its digest.
        """
        stored = open_folder(folder)
        facts = stored.facts
        if facts.get("format") != FORMAT:
            raise HistoryError(
                f"{folder}: format: {facts.get('format')!r} is not {FORMAT}; make the folder again with "
                "`python -m routing fit` or `python -m producers.prepare` of this version"
            )
        made_by = facts["embedder"]
        if embedder is not None and made_by != embedder:
            raise HistoryError(
                f"{folder}: embedder: the history was embedded by {made_by!r}, queries by {embedder!r}; "
                "use that model (and its token limit), or embed the history again"
            )
        try:
            texts = _unpack_texts(stored.path(TEXTS_FILE))
            quality, cost, vectors = (
                np.load(stored.path(name), allow_pickle=False)
                for name in (QUALITY_FILE, COST_FILE, "embeddings.npy")
            )
        except FolderError as error:
            raise HistoryError(str(error)) from None
        history = History(**texts, models=facts["models"], quality=quality, cost=cost)
        embedded = cls(history, vectors, made_by)
        if embedded.digest() != facts["digest"]:
            raise HistoryError(
                f"{folder}: digest: the manifest says {facts['digest'][:16]}..., the data is "
                f"{embedded.digest()[:16]}...; save the history again"
            )
        return embedded

    def load_index(self, folder: str | Path, threads: int = 1) -> NeighbourIndex | None:
        """Return the index that was saved with this history; None if there is none.

        Raises
        ------
        HistoryError
            The index was changed, or was made from other embeddings.
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


def stored_embedder(folder: str | Path) -> tuple[str, int]:
    """Return the identity and the dimension of the embedder of a saved history."""
    facts = open_folder(folder).facts
    return str(facts["embedder"]), int(facts["dimension"])


def _pack_texts(history: History) -> bytes:
    """Return the texts as compressed JSON: small to ship, and readable without a data frame library."""
    fields = {name: getattr(history, name) for name in _TEXT_FIELDS}
    # escaped lone surrogates survive; without a time stamp, equal histories are equal files
    return gzip.compress(json.dumps(fields).encode(), mtime=0)


def _unpack_texts(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rb") as file:
        fields: dict[str, Any] = json.load(file)
    return {name: fields[name] for name in _TEXT_FIELDS}


def _frozen(values: ArrayLike, kind: type[np.generic], name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.array(values, dtype=kind, order="C")
    except (TypeError, ValueError) as error:
        raise HistoryError(f"{name}: {error}; give numbers only") from None
    array.setflags(write=False)
    return array


def _hash_texts(hasher: hashlib._Hash, texts: Sequence[str] | None) -> None:
    # The length before every text makes the bytes of different lists differ.
    if texts is None:
        hasher.update(b"none")
        return
    hasher.update(f"{len(texts)}:".encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hasher.update(f"{len(data)}:".encode())
        hasher.update(data)
