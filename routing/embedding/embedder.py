"""Interface of embedders, which turn texts into unit vectors, and their loading by name or folder."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from routing.embedding.bytes_embedder import BYTES_FILE, BytesEmbedder
from routing.embedding.model_files import DEFAULT, EmbedderError, identity_of, model_folder, token_limit
from routing.embedding.query_batch import QueryBatch
from routing.embedding.static_embedder import StaticEmbedder
from routing.embedding.unit_vectors import normalised
from routing.extras import missing_module


class Embedder(Protocol):
    """Turns texts into unit vectors; rows depend on each other by rounding errors only."""

    @property
    def identity(self) -> str:
        """Digest of weights, configuration, tokenizer and token limit, which decide the vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        ...

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """Return the prompts with their embeddings, float32 unit rows [n, dimension]."""
        ...


def load_embedder(
    model: str | Path = DEFAULT,
    max_tokens: int | None = None,
    batch_size: int = 32,
    threads: int | None = None,
    device: str = "cpu",
) -> Embedder:
    """Load an embedder from a folder or by name.

    The files of a folder decide its kind: a fitted `bytes` table, a static table of model2vec, or a model of
    sentence-transformers. Only the last uses the other parameters.

    Parameters
    ----------
    model : str or path
        A folder, `all-MiniLM-L6-v2` (from its PyPI package), or any name on the hub.
    max_tokens : int, optional
        Maximum tokens of a text, which is cut there; by default the model's own limit.
    batch_size : int
        Texts in one pass of the model.
    threads : int, optional
        Threads of torch; by default torch's own choice.
    device : str
        Device of torch, such as `cuda`.

    Raises
    ------
    EmbedderError
        The model or the extra `embed` is missing, or the hub cannot be reached.
    """
    folder = model_folder(model)
    if (folder / BYTES_FILE).exists():
        return BytesEmbedder.load(folder)
    if _is_model2vec(folder):
        return StaticEmbedder(folder)
    if importlib.util.find_spec("sentence_transformers") is None:
        raise EmbedderError(f"model: {str(model)!r}: {missing_module('sentence_transformers')}")
    return SentenceTransformerEmbedder(folder, max_tokens, batch_size, threads, device)


class SentenceTransformerEmbedder:
    """A model of sentence-transformers, which may be a static table; torch is loaded at first use.

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
        return int(self._load_model().get_embedding_dimension())

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """Return the prompts with their embeddings; see `Embedder.embed`."""
        if not len(prompts):
            return QueryBatch(prompts, np.zeros((0, self.dimension), dtype=np.float32))
        vectors = self._load_model().encode(
            [_replace_surrogates(text) for text in prompts],
            batch_size=self.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return QueryBatch(prompts, normalised(vectors))

    def _load_model(self) -> Any:
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


def _replace_surrogates(text: str) -> str:
    """Return the text with lone surrogates replaced, which tokenizers reject."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Suppress the progress bar that transformers draws for every model it loads."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _is_model2vec(folder: Path) -> bool:
    path = folder / "config.json"
    if not path.exists():
        return False
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return bool(config.get("model_type") == "model2vec")
