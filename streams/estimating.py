"""What a worker estimates with: embedder and estimator by the settings' preset, on the saved history."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog

from routing.catalogue import Catalogue
from routing.embedding import Embedder, EmbedderError, load_embedder
from routing.estimators.base import Estimates, Estimator, FloatArray
from routing.estimators.neighbours import Neighbours
from routing.fitting import FitFacts, fit_facts, load_fitted
from routing.history import EmbeddedHistory
from routing.index import NeighbourIndex
from routing.presets import PRESETS, choose_preset
from streams.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Estimating:
    """An embedder and an estimator that fit each other, and the history they rest on.

    Parameters
    ----------
    embedder : Embedder
    estimator : Estimator
    history : EmbeddedHistory
    preset, reason : str
        Name of the preset, and why it was taken.
    queries_per_second : float, optional
        Decisions from the raw prompt a second and core, where they were measured.
    """

    embedder: Embedder
    estimator: Estimator
    history: EmbeddedHistory
    preset: str = "paper"
    reason: str = "given"
    queries_per_second: float | None = None

    @property
    def planning(self) -> dict[str, Any]:
        """What the preset says of warm-up and prices, for `Settings.with_preset`."""
        return dict(PRESETS[self.preset].planning)

    @property
    def dimension(self) -> int:
        """Length of an embedding, as the history has it: no model has to be loaded to know it."""
        return int(self.history.embeddings.shape[1])

    def warm_up(self) -> None:
        """Load the embedding model now: torch takes tens of seconds, which a lane's first query would wait.

        Raises
        ------
        Exception
            Whatever keeps the model from embedding a text.
        """
        began = time.monotonic()
        self.embedder.embed(["What is loaded now need not be loaded by the first query."])
        log.info("embedder_loaded", seconds=round(time.monotonic() - began, 1))

    def leave_one_out(self) -> Estimates:
        """Estimates for the history's own rows, [H, M]."""
        return self.estimator.leave_one_out()

    def budgets(self, catalogue: Catalogue) -> FloatArray:
        """USD a period of every LLM of a catalogue; those without a history count as mean ones."""
        quality, cost = self.history.history.quality.mean(0), self.history.history.cost.mean(0)
        where = {name: number for number, name in enumerate(self.history.models)}
        rows = [where.get(name, -1) for name in catalogue.names]
        return catalogue.budgets(np.append(quality, quality.mean())[rows], np.append(cost, cost.mean())[rows])


class Known(NamedTuple):
    """What a worker rests on: `Estimating` without an estimator that has to be built first."""

    embedder: Embedder
    history: EmbeddedHistory
    estimator: Estimator | None
    preset: str
    reason: str
    queries_per_second: float | None
    graph: NeighbourIndex | None = None
    """What finds neighbours, where it is asked for and was saved with the history."""

    @property
    def fitted(self) -> str | None:
        """The preset that the history was fitted for; None where it was not."""
        return None if self.estimator is None else self.preset


def load_estimating(settings: Settings, catalogue: Catalogue) -> Estimating:
    """Load what the settings ask for: a fit of `python -m routing fit`, or neighbours on a plain history.

    Raises
    ------
    ValueError
        No history is set, it was embedded by another model or fitted for another preset, or it has none of
        the catalogue's LLMs.
    """
    known = load_known(settings)
    history = known.history
    estimating = Estimating(
        known.embedder, known.estimator or _neighbours(settings, history, known.graph), history, known.preset,
        known.reason, known.queries_per_second,
    )  # fmt: skip
    if not set(history.models) & set(catalogue.names):
        raise ValueError(
            f"catalogue: none of {', '.join(catalogue.names)} is in the history, which has "
            f"{', '.join(history.models)}; correct the names"
        )
    if unknown := [name for name in catalogue.names if name not in history.models]:
        log.warning("models_without_history", models=unknown, exploration=settings.exploration)
    log.info(
        "history_loaded", rows=len(history), models=len(history.models), digest=history.digest()[:12],
        preset=estimating.preset, reason=estimating.reason, queries_per_second=estimating.queries_per_second,
    )  # fmt: skip
    return estimating


def load_known(settings: Settings) -> Known:
    """Load what a worker rests on, up to what takes long to build: so a check finds what a start would.

    Raises
    ------
    ValueError, OSError
        As `load_estimating`.
    """
    if settings.history is None:
        raise ValueError("history: not set; set PORT_HISTORY to the folder that `producers.prepare` saved")
    try:
        facts = fit_facts(settings.history)
    except FileNotFoundError:
        return _plain(settings, settings.history)
    return _fitted(settings, settings.history, facts)


def load_plain_embedder(settings: Settings) -> Embedder:
    """The embedder of a history that was not fitted.

    Raises
    ------
    ValueError
        There is no such model.
    """
    if settings.embedder is None:
        return load_embedder()
    try:
        return load_embedder(settings.embedder)
    except EmbedderError as error:
        raise ValueError(f"embedder: {error}") from error


def _fitted(settings: Settings, folder: Path, facts: FitFacts) -> Known:
    if settings.preset not in ("auto", facts.preset):
        raise ValueError(
            f"preset: {settings.preset!r} is set, but {folder} was fitted for {facts.preset!r}; "
            f"set PORT_PRESET={facts.preset} or run `python -m routing fit --preset {settings.preset}`"
        )
    embedder, estimator, history = load_fitted(folder)
    return Known(embedder, history, estimator, facts.preset, facts.reason, facts.queries_per_second)


def _plain(settings: Settings, folder: Path) -> Known:
    embedder = load_plain_embedder(settings)
    history = EmbeddedHistory.load(folder, embedder.identity)
    if settings.preset not in ("auto", "paper"):
        choose_preset(len(history), settings.preset)  # one too short for it is told so: no fit would help
        raise ValueError(
            f"preset: {settings.preset!r} needs a fit; run `python -m routing fit --preset "
            f"{settings.preset}` and set PORT_HISTORY to its folder"
        )
    graph = history.load_index(folder) if settings.index == "hnsw" else None
    return Known(embedder, history, None, "paper", "the history was not fitted", None, graph)


def _neighbours(settings: Settings, history: EmbeddedHistory, saved: NeighbourIndex | None) -> Neighbours:
    began = time.monotonic()
    index = saved or NeighbourIndex(history.embeddings, settings.index)
    if index.kind == "hnsw":
        log.info("graph_ready", saved=saved is not None, seconds=round(time.monotonic() - began, 1))
    return Neighbours(
        history,
        k=min(settings.k, len(history)),
        weights=settings.weighting,
        cost=settings.cost_estimate,
        index=index,
    )
