"""Saved fits: history, embedder and estimator in one folder, loaded within seconds."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from routing.embedding.bytes_embedder import BytesEmbedder
from routing.embedding.embedder import Embedder, load_embedder
from routing.embedding.missing_embedder import MissingEmbedder
from routing.embedding.model_files import DEFAULT, EmbedderError
from routing.embedding.static_embedder import StaticEmbedder
from routing.estimators.base import FittedEstimator
from routing.estimators.registry import load_estimator
from routing.fitting.presets import choose_preset
from routing.history.history import EmbeddedHistory, stored_embedder
from routing.history.rules import HistoryError
from routing.history.storage import how_to_fit, write_atomically

FACTS_FILE, ESTIMATOR_FOLDER, EMBEDDER_FOLDER = "fit.json", "estimator", "embedder"


class Fitted(NamedTuple):
    """Embedder and estimator of a router, and the history that both were fitted to."""

    embedder: Embedder
    estimator: FittedEstimator
    history: EmbeddedHistory


@dataclass(frozen=True)
class FitFacts:
    """Facts about a fit; the fields are the keys of `fit.json`.

    Parameters
    ----------
    preset : str
        Name of the preset.
    reason : str
        Reason for the preset and the kernel.
    history : str
        Digest of the embedded history.
    model : str
        The sentence-transformers model behind the embedder.
    max_tokens : int, optional
        Length at which the model cuts texts.
    queries_per_second : float, optional
        Decisions from the raw prompt per second and core, measured after the fit in batches of 256.
    """

    preset: str
    reason: str
    history: str
    model: str = DEFAULT
    max_tokens: int | None = None
    queries_per_second: float | None = None


def save_fitted(folder: str | Path, fitted: Fitted, facts: FitFacts) -> None:
    """Save history, embedder and estimator; `fit.json` is written last and completes the fit."""
    root = Path(folder)
    fitted.history.save(root)
    if isinstance(fitted.embedder, BytesEmbedder | StaticEmbedder):
        fitted.embedder.save(root / EMBEDDER_FOLDER)
    fitted.estimator.save(root / ESTIMATOR_FOLDER)
    text = json.dumps(asdict(facts), indent=1).encode()
    write_atomically(root / FACTS_FILE, lambda file: file.write(text))


def fit_facts(folder: str | Path) -> FitFacts:
    """Return the facts that `save_fitted` wrote.

    Raises
    ------
    FileNotFoundError
        The folder holds no fit.
    """
    path = Path(folder) / FACTS_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no fit was saved there; {how_to_fit(Path(folder))}")
    return FitFacts(**json.loads(path.read_text(encoding="utf-8")))


def model_or_stand_in(
    folder: str | Path, model: str | Path, max_tokens: int | None = None, threads: int | None = None
) -> Embedder:
    """Load the model that embedded a history; return a stand-in if the model is not installed.

    Parameters
    ----------
    folder : path
        Folder of the history.
    model, max_tokens, threads
        As in `routing.embedding.embedder.load_embedder`.
    """
    try:
        return load_embedder(model, max_tokens, threads=threads)
    except EmbedderError as error:
        if importlib.util.find_spec("sentence_transformers") is not None:
            raise
        identity, dimension = stored_embedder(folder)
        return MissingEmbedder(identity, dimension, str(error))


def load_fitted(folder: str | Path, threads: int | None = None) -> Fitted:
    """Load a fit within seconds; a sentence-transformers model is loaded at its first use.

    Parameters
    ----------
    folder : path
        From `python -m routing fit`.
    threads : int, optional
        Threads of the sentence-transformers model, if the fit has one.

    Returns
    -------
    Fitted

    Raises
    ------
    FileNotFoundError
        The folder holds no fit.
    HistoryError
        History, embedder and estimator are from different fits.
    """
    root, facts = Path(folder), fit_facts(folder)
    preset = choose_preset(2**31, facts.preset)[0]
    embedder: Embedder
    if preset.embedder == "bytes":
        embedder = BytesEmbedder.load(root / EMBEDDER_FOLDER)
    elif preset.embedder == "static":
        embedder = StaticEmbedder(root / EMBEDDER_FOLDER)
    else:
        embedder = model_or_stand_in(root, facts.model, facts.max_tokens, threads)
    history = EmbeddedHistory.load(root, embedder.identity)
    if history.digest() != facts.history:
        raise HistoryError(
            f"{root}: history: its digest is not that of {FACTS_FILE}; run `python -m routing fit` again"
        )
    estimator = load_estimator(root / ESTIMATOR_FOLDER, history, preset.estimator)
    return Fitted(embedder, estimator, history)
