"""The static embedder: one vector a token, in model2vec's format, pooled without torch.

For a history too small to fit the `bytes` embedder: the table is distilled once from a transformer (the mean
output for each token alone, centred, on its principal axes), which needs no history at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from routing.embedding.model_files import EmbedderError, identity_of, model_folder
from routing.embedding.query_batch import QueryBatch
from routing.embedding.unit_vectors import normalised

TOKENIZER = "tokenizer.json"
BATCH = 1024
"""Tokens that are distilled at once."""

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


class StaticEmbedder:
    """Mean of the vectors of a text's tokens, as a unit vector.

    Parameters
    ----------
    folder : path
        A model2vec folder: `model.safetensors` with `embeddings` [V, d], and `tokenizer.json`.

    Raises
    ------
    EmbedderError
        The folder has no such table.
    """

    def __init__(self, folder: str | Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self.folder = Path(folder)
        for name in (_WEIGHTS, TOKENIZER):
            if not (self.folder / name).exists():
                raise EmbedderError(f"{self.folder / name}: missing; distil a table with distil_static")
        self._table = load_file(self.folder / _WEIGHTS)["embeddings"].astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.identity = identity_of(self.folder, None)

    def save(self, folder: str | Path) -> None:
        """Copy the table to another folder."""
        target = Path(folder)
        if target.resolve() != self.folder.resolve():
            shutil.copytree(self.folder, target, dirs_exist_ok=True)

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self._table.shape[1])

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """Return the prompts with their embeddings; a text without tokens gets the first axis."""
        import scipy.sparse as sp

        encoded = self._tokenizer.encode_batch_fast(list(prompts), add_special_tokens=False)
        ids = [encoding.ids for encoding in encoded]
        filled = np.fromiter(map(len, ids), np.intp, len(ids))
        column = np.fromiter((i for row in ids for i in row), np.int32, int(filled.sum()))
        bag = sp.csr_matrix(
            (np.ones(len(column), np.float32), column, np.r_[0, np.cumsum(filled)]),
            (len(ids), len(self._table)),
        )
        return QueryBatch(prompts, normalised(bag @ self._table))


def distil_static(
    model: str | Path,
    out: str | Path,
    dimension: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StaticEmbedder:
    """Distil a token table from a sentence-transformers model, which takes a minute or two.

    Parameters
    ----------
    model : str or path
        As in `routing.embedding.embedder.load_embedder`.
    out : path
        Folder for the table, in model2vec's format.
    dimension : int, optional
        Principal axes to keep; all by default.
    progress : callable, optional
        Called with the numbers of embedded tokens and of all tokens.
    """
    import torch
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from transformers import AutoModel

    source, target = model_folder(model), Path(out)
    tokenizer = Tokenizer.from_file(str(source / TOKENIZER))
    size = tokenizer.get_vocab_size()
    wrapped = tokenizer.encode("a", add_special_tokens=True).ids
    inner = tokenizer.encode("a", add_special_tokens=False).ids
    before = wrapped[: wrapped.index(inner[0])]
    after = wrapped[len(before) + len(inner) :]
    network = AutoModel.from_pretrained(source).eval()
    vectors = np.empty((size, network.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, size, BATCH):
            stop = min(start + BATCH, size)
            ids = torch.tensor([[*before, token, *after] for token in range(start, stop)])
            states = network(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
            vectors[start:stop] = states.mean(dim=1).numpy()
            if progress is not None:
                progress(stop, size)
    _save_table(_on_axes(vectors, dimension), source / TOKENIZER, target, save_file)
    return StaticEmbedder(target)


def _on_axes(vectors: NDArray[np.float32], dimension: int | None) -> NDArray[np.float32]:
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    return np.ascontiguousarray(centred @ axes[:, :dimension])


def _save_table(
    table: NDArray[np.float32], tokenizer: Path, target: Path, save_file: Callable[..., None]
) -> None:
    target.mkdir(parents=True, exist_ok=True)
    save_file({"embeddings": table.astype(np.float16)}, str(target / _WEIGHTS))
    (target / TOKENIZER).write_bytes(tokenizer.read_bytes())
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}
    (target / _CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
