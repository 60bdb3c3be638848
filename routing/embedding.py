"""Texts to unit vectors: the interface of embedders, and every kind of them by name or folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from routing.bytes_embedder import BYTES_FILE, BytesEmbedder
from routing.estimators.base import QueryBatch
from routing.model_files import DEFAULT, EmbedderError, identity_of, model_folder, token_limit
from routing.static_embedder import StaticEmbedder
from routing.unit import normalised

__all__ = [
    "DEFAULT",
    "Embedder",
    "EmbedderError",
    "SentenceTransformerEmbedder",
    "load_embedder",
    "normalised",
]


class Embedder(Protocol):
    """Texts to unit vectors; no row depends on the other rows beyond the last bits."""

    @property
    def identity(self) -> str:
        """Digest of all that decides the vectors: weights, configuration, tokenizer, token limit."""
        ...

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        ...

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """The prompts with embeddings of float32 unit rows [n, dimension]."""
        ...


def load_embedder(
    model: str | Path = DEFAULT,
    max_tokens: int | None = None,
    batch_size: int = 32,
    threads: int | None = None,
    device: str = "cpu",
) -> Embedder:
    """An embedder out of a folder or by name.

    A folder tells by its files what it holds: a fitted `bytes` table, a static table of model2vec, or a model
    of sentence-transformers, which the other parameters are for.

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
    device : str
        Where torch runs the model, as `cuda`.

    Raises
    ------
    EmbedderError
        There is no such model, or the hub that has it cannot be reached.
    """
    folder = model_folder(model)
    if (folder / BYTES_FILE).exists():
        return BytesEmbedder.load(folder)
    if _is_model2vec(folder):
        return StaticEmbedder(folder)
    return SentenceTransformerEmbedder(folder, max_tokens, batch_size, threads, device)


class SentenceTransformerEmbedder:
    """Any model that sentence-transformers loads, static tables too; torch is loaded at first use.

    Parameters
    ----------
    folder : path
        Folder of the model.
    max_tokens, batch_size, threads, device
        As in `load_embedder`.

    Raises
    ------
    EmbedderError
        The folder holds no model.
    """

    def __init__(
        self,
        folder: str | Path,
        max_tokens: int | None = None,
        batch_size: int = 32,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.folder = Path(folder)
        if not (self.folder / "modules.json").exists() and not (self.folder / "config.json").exists():
            raise EmbedderError(f"{folder}: neither modules.json nor config.json; give a model's folder")
        self.max_tokens = max_tokens or token_limit(self.folder)
        self.batch_size = batch_size
        self.threads = threads
        self.device = device
        self.identity = f"st-{identity_of(self.folder, self.max_tokens)}"
        self._model: Any = None

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self._loaded().get_embedding_dimension())

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """The prompts with their embeddings; see `Embedder.embed`."""
        if not len(prompts):
            return QueryBatch(prompts, np.zeros((0, self.dimension), dtype=np.float32))
        vectors = self._loaded().encode(
            [_whole(text) for text in prompts],
            batch_size=self.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return QueryBatch(prompts, normalised(vectors))

    def _loaded(self) -> Any:
        if self._model is None:
            import torch
            from sentence_transformers import SentenceTransformer

            if self.threads is not None:
                torch.set_num_threads(self.threads)
            with _no_progress_bar():
                self._model = SentenceTransformer(str(self.folder), device=self.device, local_files_only=True)
            if self.max_tokens is not None:
                self._model.max_seq_length = self.max_tokens
        return self._model


def _whole(text: str) -> str:
    """The text with halves of surrogate pairs replaced, which tokenizers refuse."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Transformers draws a bar for every model it loads, among whatever a program is printing."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _is_model2vec(folder: Path) -> bool:
    path = folder / "config.json"
    if not path.exists():
        return False
    return json.loads(path.read_text(encoding="utf-8")).get("model_type") == "model2vec"
