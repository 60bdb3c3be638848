"""Fit a preset to a history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from routing.embedding.bytes_embedder import fit_bytes
from routing.embedding.embedder import Embedder, load_embedder
from routing.embedding.model_files import DEFAULT
from routing.embedding.static_embedder import distil_static
from routing.estimators.base import OnStep
from routing.estimators.registry import fit_estimator
from routing.fitting.presets import Preset
from routing.fitting.saved_fit import EMBEDDER_FOLDER, Fitted
from routing.history.history import EmbeddedHistory, History

_EMBED_BATCH = 64

OnProgress = Callable[[int, int], None]
"""Called with the numbers of embedded texts and of all texts."""


def fit(
    history: History,
    preset: Preset,
    *,
    out: Path | None = None,
    embeddings: NDArray[np.float32] | None = None,
    model: str = DEFAULT,
    max_tokens: int | None = None,
    threads: int | None = None,
    loaded: Embedder | None = None,
    on_progress: OnProgress | None = None,
    on_step: OnStep | None = None,
) -> Fitted:
    """Embed a history and fit the preset's embedder and estimator to it.

    Parameters
    ----------
    history : History
        H answered queries.
    preset : Preset
        From `choose_preset`.
    out : path, optional
        Folder for a distilled table; only the embedder "static" needs it.
    embeddings : ndarray of float32, shape [H, D], optional
        The model's unit embeddings of the history's texts, if they are available.
    model : str
        The sentence-transformers model of the embeddings.
    max_tokens, threads : int, optional
        As in `routing.embedding.embedder.load_embedder`.
    loaded : Embedder, optional
        That model, if it is loaded already.
    on_progress : callable, optional
        Called after each batch of texts.
    on_step : callable, optional
        Called after each step.

    Returns
    -------
    Fitted

    Raises
    ------
    ValueError
        The embeddings do not match the history.
    """
    if embeddings is not None and len(embeddings) != len(history):
        raise ValueError(f"embeddings: {len(embeddings)} rows for a history of {len(history)} rows")
    embedder: Embedder
    if preset.embedder == "static":
        if out is None:
            raise ValueError("out: the static embedder's table needs a folder")
        embedder = distil_static(model, out / EMBEDDER_FOLDER, progress=on_progress)
        vectors = embedder.embed(history.texts).embeddings
    else:
        embedder = loaded or load_embedder(model, max_tokens, threads=threads)
        vectors = _embed(embedder, history, on_progress) if embeddings is None else embeddings
        if preset.embedder == "bytes":
            embedder = fit_bytes(history.texts, vectors, preset.dimension or vectors.shape[1])
            vectors = embedder.embed(history.texts).embeddings
            if on_step is not None:
                on_step("bytes embedder")
    embedded = EmbeddedHistory(history, vectors, embedder.identity)
    return Fitted(embedder, fit_estimator(embedded, preset.estimator, on_step=on_step), embedded)


def _embed(embedder: Embedder, history: History, on_progress: OnProgress | None) -> NDArray[np.float32]:
    """Embed the history's texts in batches of similar length, and report the progress.

    The longest batch is first, as it needs the most memory. The order of the others mixes all lengths, so
    that the number of embedded texts measures the remaining time.
    """
    order = np.argsort([len(text) for text in history.texts], kind="stable")[::-1]
    batches = [order[start : start + _EMBED_BATCH] for start in range(0, len(order), _EMBED_BATCH)]
    # Fractional parts of multiples of the golden ratio are spread evenly: any few batches have all lengths.
    others = np.argsort(np.arange(1, len(batches)) * (np.sqrt(5) - 1) / 2 % 1.0) + 1
    out = np.empty((len(history), embedder.dimension), np.float32)
    done = 0
    for number in (0, *others):
        rows = batches[number]
        out[rows] = embedder.embed([history.texts[i] for i in rows]).embeddings
        done += len(rows)
        if on_progress is not None:
            on_progress(done, len(order))
    return out
