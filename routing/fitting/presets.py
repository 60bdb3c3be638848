"""Presets: named combinations of embedder, estimator and planning settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from routing.embedding.bytes_embedder import SMALLEST_HISTORY
from routing.estimators.base import EstimatorSettings
from routing.estimators.neighbours import NeighbourSettings
from routing.estimators.ridge_settings import FAST_LANDMARKS, RidgeSettings

BYTES_ROWS = SMALLEST_HISTORY
"""Shortest history for the `bytes` embedder: with fewer rows, many words of queries are unknown."""

MIN_MEASURED_ROWS = 250
"""Shortest history on which routing was measured (docs/results.md, "The length of the history")."""

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
    """A named combination of embedder, estimator and planning settings.

    Parameters
    ----------
    name : str
    embedder : {"model", "bytes", "static"}
        A sentence-transformers model; hashed words fitted to it; or a token table distilled from it.
    estimator : EstimatorSettings
        Settings of one of the estimators in `routing.estimators.registry`.
    planning : dict
        Fields of `routing.planning.schedule.PlanningSettings` that the preset sets.
    summary : str
        For people.
    dimension : int, optional
        Of the embedder "bytes": landmarks need few dimensions, and a decision becomes cheaper.
    """

    name: str
    embedder: Literal["model", "bytes", "static"]
    estimator: EstimatorSettings
    planning: dict[str, Any]
    summary: str
    dimension: int | None = None


PRESETS = {
    "paper": Preset(
        "paper",
        "model",
        NeighbourSettings(k=5),
        {"warmup": "buffer", "resolve": "once", "solver": "exact", "top_up_samples": False},
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
    """Return the preset of a name, adapted to the history's size, and the reason for the choice.

    Parameters
    ----------
    rows : int
        Length H of the history.
    name : str
        One of `NAMES`; "auto" chooses by the size.

    Raises
    ------
    ValueError
        Unknown name, or `fast` on a history too short for it.

    Examples
    --------
    >>> choose_preset(20_000, "best")[0].estimator.landmarks
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
    settings, choice = preset.estimator.sized_for(rows)
    return replace(preset, estimator=settings), reason if choice is None else f"{reason}; {choice}"


def short_history(rows: int) -> str | None:
    """Return a warning for a history that is too short to estimate from; None if it is long enough.

    Examples
    --------
    >>> short_history(250) is None
    True
    """
    if rows >= MIN_MEASURED_ROWS:
        return None
    return (
        f"the history has {rows} rows, too few to estimate quality and cost from: "
        f"give {MIN_MEASURED_ROWS} or more, and {BYTES_ROWS:,} for preset `fast`"
    )
