"""Presets of router and stream: which embedder and estimator, how prices are learned, which is taken when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from routing.bytes_embedder import SMALLEST_HISTORY
from routing.estimators.base import Estimator, FloatArray
from routing.estimators.neighbours import Neighbours
from routing.estimators.ridge import Progress, RidgeSettings, fit_ridge
from routing.history import EmbeddedHistory

EXACT_ROWS = 16_000
"""Longest history for the exact kernel: 1 GB and about a minute a core; both grow fast beyond."""

BYTES_ROWS = SMALLEST_HISTORY
"""Shortest history that the `bytes` embedder is fitted on: with fewer, most words of queries are unknown."""

FAST_LANDMARKS = 8_000

RESOLVE = {
    "warmup": "history",
    "resolve": "every",
    "resolve_every": 250,
    "resolve_late": 50,
    "resolve_tail": 0.2,
    "resolve_window": 2_000,
    "solver": "newton",
    "mix": "remaining",
}


@dataclass(frozen=True)
class Preset:
    """What a name stands for.

    Parameters
    ----------
    name : str
    embedder : {"model", "bytes", "static"}
        A sentence-transformers model; hashed words fitted to it; or a token table distilled from it.
    ridge : RidgeSettings, optional
        Of the kernel estimator; None is the paper's neighbours.
    planning : dict
        Fields of `routing.planning.PlanningSettings` that it sets.
    summary : str
        For people.
    dimension : int, optional
        Of embedder "bytes": few do for landmarks, and make a decision cheaper.
    """

    name: str
    embedder: Literal["model", "bytes", "static"]
    ridge: RidgeSettings | None
    planning: dict[str, Any]
    summary: str
    dimension: int | None = None


PRESETS = {
    "paper": Preset(
        "paper",
        "model",
        None,
        {"warmup": "buffer", "resolve": "once", "solver": "exact"},
        "k = 5 neighbours of MiniLM embeddings, prices learned once from the first queries",
    ),
    "best": Preset(
        "best",
        "model",
        RidgeSettings(words=128),
        RESOLVE,
        "exact kernel on MiniLM embeddings and words: the best routing, slow",
    ),
    "fast": Preset(
        "fast",
        "bytes",
        RidgeSettings(landmarks=FAST_LANDMARKS, cost_parts=("text-kernel", "kernel")),
        RESOLVE,
        "hashed words and landmarks: a decision from the raw prompt in under 100 us",
        dimension=64,
    ),
    "static": Preset(
        "static",
        "static",
        RidgeSettings(),
        RESOLVE,
        "exact kernel on a distilled token table: for histories too short for hashed words",
    ),
}
NAMES = (*PRESETS, "auto")


def choose_preset(rows: int, name: str = "auto") -> tuple[Preset, str]:
    """The preset of a name, fitted to the history's size, and the reason for what was chosen.

    Parameters
    ----------
    rows : int
        Length H of the history.
    name : str
        One of `NAMES`; "auto" takes what the size allows.

    Raises
    ------
    ValueError
        Unknown name, or `fast` on a history too short for it.

    Examples
    --------
    >>> choose_preset(20_000, "best")[0].ridge.landmarks
    8000
    >>> choose_preset(300)[0].name
    'static'
    """
    if name not in NAMES:
        raise ValueError(f"preset: {name!r} is not one of {', '.join(NAMES)}")
    reason = "asked for"
    if name == "auto":
        name = "fast" if rows >= BYTES_ROWS else "static"
        limit = "at least" if name == "fast" else "fewer than"
        reason = f"the history has {rows:,} rows, {limit} the {BYTES_ROWS:,} that hashed words need"
    preset = PRESETS[name]
    if preset.embedder == "bytes" and rows < BYTES_ROWS:
        raise ValueError(
            f"preset: 'fast' needs a history of {BYTES_ROWS:,} rows, this one has {rows:,}; take 'static'"
        )
    if preset.ridge is None:
        return preset, reason
    landmarks = preset.ridge.landmarks
    if landmarks is None and rows > EXACT_ROWS:
        landmarks = FAST_LANDMARKS
        reason += f"; {landmarks:,} landmarks, as {rows:,} rows are more than {EXACT_ROWS:,}"
    elif landmarks is not None and landmarks >= rows:
        landmarks = None
        reason += f"; exact kernel, as {rows:,} rows are fewer than the landmarks"
    elif landmarks is None:
        reason += f"; exact kernel, as {rows:,} rows are at most {EXACT_ROWS:,}"
    else:
        reason += f"; {landmarks:,} landmarks, so that a decision does not grow with the history"
    return replace(preset, ridge=replace(preset.ridge, landmarks=landmarks)), reason


def fit_estimator(
    history: EmbeddedHistory,
    preset: Preset,
    features: FloatArray | None = None,
    progress: Progress | None = None,
) -> Estimator:
    """The preset's estimator on an embedded history.

    Parameters
    ----------
    history : EmbeddedHistory
        Embedded by the preset's embedder.
    preset : Preset
        From `choose_preset`, so that it fits the history's size.
    features : ndarray of float64, shape [H, 38], optional
        Counts and cues of the history's prompts, when they are at hand.
    progress : callable, optional
        Told of each step as it is done.
    """
    if preset.ridge is None:
        return Neighbours(history, k=min(5, len(history)))
    return fit_ridge(history, preset.ridge, features, progress)
