"""The history: quality and cost of every LLM on past queries, validated, embedded, saved and loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing.atomic import write_atomically
from routing.estimators.base import FloatArray, QueryBatch

MANIFEST = "manifest.json"
FORMAT = 1
UNIT_TOLERANCE = 2e-3
"""How far from 1 the length of a stored embedding may be: float16 rounding stays well below."""

RESERVED = ("sample_id", "prompt", "eval_name", "query")
COST_SUFFIX = "|total_cost"


class HistoryError(ValueError):
    """What is wrong with a history, and how to mend it."""


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
        self._check_lengths()
        self._check_names()
        self._check_numbers()

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
                f"models: no LLM in common with {_some(wanted)}; the history has {_some(self.models)}. "
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

    def _check_lengths(self) -> None:
        if not self.ids:
            raise HistoryError("ids: the history has no rows; give at least one answered query")
        if not self.models:
            raise HistoryError("models: the history has no LLM; give at least one")
        for name in ("prompts", "tasks", "embed_texts"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.ids):
                raise HistoryError(f"{name}: {len(values)} for {len(self.ids)} ids; give one a row")
        for name in ("quality", "cost"):
            shape = getattr(self, name).shape
            if shape != (len(self.ids), len(self.models)):
                raise HistoryError(
                    f"{name}: shape {shape} is not [rows, LLMs] = [{len(self.ids)}, {len(self.models)}]"
                )

    def _check_names(self) -> None:
        for name in ("ids", "prompts", "tasks", "embed_texts"):
            for row, value in enumerate(getattr(self, name) or ()):
                if not isinstance(value, str):
                    raise HistoryError(f"{name}: row {row} is {value!r}; give a string")
        for name in ("ids", "models"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                first: dict[str, int] = {}
                for row, value in enumerate(values):
                    if value in first:
                        raise HistoryError(
                            f"{name}: {value!r} is there twice, at {first[value]} and {row}; "
                            "drop one of them or rename it"
                        )
                    first[value] = row
        for name in self.models:
            if not isinstance(name, str) or not name or name in RESERVED or name.endswith(COST_SUFFIX):
                raise HistoryError(
                    f"models: {name!r} cannot be the name of an LLM; it must be a text that is not empty, "
                    f"not one of {', '.join(RESERVED)} and does not end in {COST_SUFFIX}"
                )

    def _check_numbers(self) -> None:
        for name, top, what in (("quality", 1.0, "in [0, 1]"), ("cost", np.inf, "in USD, 0 or more")):
            values = getattr(self, name)
            bad = ~((values >= 0) & (values <= top) & np.isfinite(values))
            if bad.any():
                row, column = np.argwhere(bad)[0]
                raise HistoryError(
                    f"{name}: row {row} (id {self.ids[row]!r}), LLM {self.models[column]!r}: "
                    f"{values[row, column]} is not a number {what}; mend or drop the row "
                    f"({int(bad.any(axis=1).sum())} rows are wrong in this way)"
                )


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
    _files: tuple[str, str] = field(default=("history", "embeddings"), init=False, repr=False)

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
                "normalise with routing.embedding.normalised, or embed the row again"
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

    def save(self, folder: str | Path) -> None:
        """Save to a folder: the rows as parquet in RouterBench's columns, the vectors as .npy, a manifest.

        The manifest is written last and names the files by digest, so a reader sees the old history or the
        new one, never half of each. Files that others keep in the folder are left alone.
        """
        from routing.datasets.tabular import to_frame

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        before = _read_manifest(place) if (place / MANIFEST).exists() else None
        names = {kind: f"{kind}-{self.digest()[:16]}" for kind in ("history", "embeddings")}
        files = {"history": names["history"] + ".parquet", "embeddings": names["embeddings"] + ".npy"}
        frame = to_frame(self.history)
        write_atomically(place / files["history"], lambda file: frame.to_parquet(file, index=False))
        write_atomically(place / files["embeddings"], lambda file: np.save(file, self.embeddings))
        manifest = {
            "format": FORMAT,
            "digest": self.digest(),
            "embedder": self.embedder,
            "dimension": self.dimension,
            "rows": len(self),
            "models": list(self.models),
            "files": files,
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
        write_atomically(place / MANIFEST, lambda file: _write(file, text))
        for name in (before or {}).get("files", {}).values():
            if name not in files.values():
                (place / name).unlink(missing_ok=True)

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
        from routing.datasets.tabular import load_parquet

        place = Path(folder)
        manifest = _read_manifest(place)
        made_by = manifest["embedder"]
        if embedder is not None and made_by != embedder:
            raise HistoryError(
                f"{place}: embedder: the history was embedded by {made_by!r}, queries by {embedder!r}; "
                "use that model (and its token limit), or embed the history again"
            )
        files = manifest["files"]
        history = load_parquet(place / files["history"])
        with open(place / files["embeddings"], "rb") as file:
            vectors = np.load(file, allow_pickle=False)
        embedded = cls(history, vectors, made_by)
        if embedded.digest() != manifest["digest"]:
            raise HistoryError(
                f"{place}: digest: the manifest says {manifest['digest'][:16]}..., the data is "
                f"{embedded.digest()[:16]}...; the files were changed after they were saved: save them again"
            )
        return embedded


def _read_manifest(folder: Path) -> dict:
    path = folder / MANIFEST
    if not path.exists():
        raise FileNotFoundError(f"{path}: no saved history there; make one with EmbeddedHistory.save")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise HistoryError(
            f"{path}: format: {manifest.get('format')!r} is not {FORMAT}; save the history with this version"
        )
    return manifest


def _write(file, data: bytes) -> None:  # type: ignore[no-untyped-def]
    file.write(data)


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


def _some(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
