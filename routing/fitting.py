"""Fitting a preset to a history, and the folder that the result is saved in and loaded from in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from routing.bytes_embedder import LARGEST_VOCABULARY, SMALLEST_HISTORY, BytesEmbedder, fit_bytes
from routing.embedding import DEFAULT, Embedder, load_embedder
from routing.estimators.base import Estimator
from routing.estimators.neighbours import Neighbours
from routing.estimators.ridge import RidgeEstimator
from routing.folder import write_atomically
from routing.history import EmbeddedHistory, History, HistoryError
from routing.presets import Preset, choose_preset, fit_estimator
from routing.static_embedder import StaticEmbedder, distil_static

_FACTS, _ESTIMATOR, _EMBEDDER = "fit.json", "estimator", "embedder"
_EMBED_BATCH = 64
_VOCABULARY = 30_522  # of BERT's and MiniLM's tokenizer
_FITS = 3  # kernels that are tried, mostly

Said = Callable[[str], None]
Counted = Callable[[int, int], None]


class Fitted(NamedTuple):
    """What the router needs: it embeds queries, estimates them, and has the history behind both."""

    embedder: Embedder
    estimator: Estimator
    history: EmbeddedHistory


@dataclass(frozen=True)
class FitFacts:
    """What is known of a fit.

    Parameters
    ----------
    preset : str
        Name of the preset.
    reason : str
        Why this preset and this kernel.
    history : str
        Digest of the embedded history.
    model : str
        The sentence-transformers model behind the embedder.
    max_tokens : int, optional
        At which it cuts texts.
    queries_per_second : float, optional
        Decisions from the raw prompt a second and core, as measured after the fit, in batches of 256.
    """

    preset: str
    reason: str
    history: str
    model: str = DEFAULT
    max_tokens: int | None = None
    queries_per_second: float | None = None


@dataclass(frozen=True)
class FitPlan:
    """What a fit will take, as far as it can be told before.

    Parameters
    ----------
    embed : int
        Texts that the slow model has to embed.
    tokens : int
        Tokens that it has to embed one by one, for a static table.
    operations : float
        Floating point operations of the closed forms.
    memory : int
        Bytes at the peak, beside the interpreter.
    """

    embed: int
    tokens: int
    operations: float
    memory: int


def plan_fit(
    rows: int, models: int, preset: Preset, embedded: bool, vocabulary: int | None = None
) -> FitPlan:
    """What fitting a preset to a history of so many rows will take.

    Parameters
    ----------
    rows, models : int
        H and M.
    preset : Preset
        From `choose_preset`.
    embedded : bool
        The model's embeddings of the history are at hand.
    vocabulary : int, optional
        Words of a hashed words' table (`routing.bytes_embedder.vocabulary_size`); the most that there can be
        when left out.
    """
    operations, memory = 0.0, rows * 400 * 4
    if has_words(rows, preset):
        size = min(LARGEST_VOCABULARY, 3 * rows if vocabulary is None else vocabulary)
        operations += size**3 / 3 + 2.0 * size * size * 384
        memory = max(memory, 8 * size * size)
    if preset.ridge is not None and preset.ridge.landmarks is None:
        operations += _FITS * 1.2 * rows**3
        memory = max(memory, 5 * rows * rows)
    elif preset.ridge is not None and preset.ridge.landmarks is not None:
        count = preset.ridge.landmarks
        operations += _FITS * (3.0 * rows * count * count + count**3 / 3)
        memory = max(memory, 20 * count * count + 8 * 4096 * count)
    uses_model = not embedded and preset.embedder != "static"
    tokens = _VOCABULARY if preset.embedder == "static" else 0
    return FitPlan(rows if uses_model else 0, tokens, operations, memory)


def has_words(rows: int, preset: Preset) -> bool:
    """Whether a table of hashed words is fitted: as the embedder, or beside it."""
    beside = preset.ridge is not None and preset.ridge.words > 0 and rows >= SMALLEST_HISTORY
    return preset.embedder == "bytes" or beside


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
    counted: Counted | None = None,
    said: Said | None = None,
) -> Fitted:
    """Embed a history, fit the preset's embedder and estimator.

    Parameters
    ----------
    history : History
        H answered queries.
    preset : Preset
        From `choose_preset`.
    out : path, optional
        Where a distilled table goes; needed by embedder "static" alone.
    embeddings : ndarray of float32, shape [H, D], optional
        The model's unit embeddings of the history's texts, when they are at hand.
    model : str
        The sentence-transformers model that made, or shall make, the embeddings.
    max_tokens, threads : int, optional
        As in `routing.embedding.load_embedder`.
    loaded : Embedder, optional
        That model, when it is loaded already.
    counted : callable, optional
        Told how many of how many texts are embedded.
    said : callable, optional
        Told of each step as it is done.

    Returns
    -------
    Fitted

    Raises
    ------
    ValueError
        The embeddings do not fit the history.
    """
    if embeddings is not None and len(embeddings) != len(history):
        raise ValueError(f"embeddings: {len(embeddings)} rows for a history of {len(history)} rows")
    embedder: Embedder
    if preset.embedder == "static":
        if out is None:
            raise ValueError("out: the static embedder's table needs a folder")
        embedder = distil_static(model, out / _EMBEDDER, progress=counted)
        vectors = embedder.embed(history.texts).embeddings
    else:
        embedder = loaded or load_embedder(model, max_tokens, threads=threads)
        vectors = _embed(embedder, history, counted) if embeddings is None else embeddings
        if preset.embedder == "bytes":
            embedder = fit_bytes(history.texts, vectors, preset.dimension or vectors.shape[1])
            vectors = embedder.embed(history.texts).embeddings
            if said is not None:
                said("bytes embedder")
    embedded = EmbeddedHistory(history, vectors, embedder.identity)
    return Fitted(embedder, fit_estimator(embedded, preset, progress=said), embedded)


def _embed(embedder: Embedder, history: History, counted: Counted | None) -> NDArray[np.float32]:
    """The history's texts, in batches of texts of like length, told as it goes."""
    order = np.argsort([len(text) for text in history.texts], kind="stable")[::-1]
    out = np.empty((len(history), embedder.dimension), np.float32)
    for start in range(0, len(order), _EMBED_BATCH):
        rows = order[start : start + _EMBED_BATCH]
        out[rows] = embedder.embed([history.texts[i] for i in rows]).embeddings
        if counted is not None:
            counted(start + len(rows), len(order))
    return out


def save_fitted(folder: str | Path, fitted: Fitted, facts: FitFacts) -> None:
    """Save history, embedder and estimator; `fit.json` is written last and ties them together."""
    place = Path(folder)
    fitted.history.save(place)
    if isinstance(fitted.embedder, BytesEmbedder | StaticEmbedder):
        fitted.embedder.save(place / _EMBEDDER)
    if isinstance(fitted.estimator, RidgeEstimator):
        fitted.estimator.save(place / _ESTIMATOR)
    text = json.dumps(asdict(facts), indent=1).encode()
    write_atomically(place / _FACTS, lambda file: file.write(text))


def fit_facts(folder: str | Path) -> FitFacts:
    """What `save_fitted` wrote about a fit.

    Raises
    ------
    FileNotFoundError
        Nothing was fitted there.
    """
    path = Path(folder) / _FACTS
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: nothing was fitted there; run `python -m routing fit --dataset FILE --out {folder}`"
        )
    return FitFacts(**json.loads(path.read_text(encoding="utf-8")))


def load_fitted(folder: str | Path, threads: int | None = None) -> Fitted:
    """Load what was fitted, in seconds; a sentence-transformers model is itself loaded at first use.

    Parameters
    ----------
    folder : path
        From `python -m routing fit`.
    threads : int, optional
        Of the sentence-transformers model, where there is one.

    Returns
    -------
    Fitted

    Raises
    ------
    FileNotFoundError
        Nothing was fitted there.
    HistoryError
        History, embedder and estimator are not of one fit.
    """
    place, facts = Path(folder), fit_facts(folder)
    preset = choose_preset(2**31, facts.preset)[0]
    embedder: Embedder
    if preset.embedder == "bytes":
        embedder = BytesEmbedder.load(place / _EMBEDDER)
    elif preset.embedder == "static":
        embedder = StaticEmbedder(place / _EMBEDDER)
    else:
        embedder = load_embedder(facts.model, facts.max_tokens, threads=threads)
    history = EmbeddedHistory.load(place, embedder.identity)
    if history.digest() != facts.history:
        raise HistoryError(
            f"{place}: history: its digest is not that of {_FACTS}; run `python -m routing fit` again"
        )
    if preset.ridge is None:
        return Fitted(embedder, Neighbours(history, k=min(5, len(history))), history)
    return Fitted(embedder, RidgeEstimator.load(place / _ESTIMATOR, history), history)
