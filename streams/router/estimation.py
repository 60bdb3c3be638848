"""Estimation: the embedder and the estimator of the settings' preset, on the saved history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog

from routing.arrays import IntArray
from routing.budgets.budget import Budget
from routing.budgets.catalogue import Catalogue
from routing.budgets.cost_quantile import CostQuantile
from routing.embedding.embedder import Embedder, load_embedder
from routing.embedding.missing_embedder import MissingEmbedder
from routing.embedding.model_files import DEFAULT, EmbedderError
from routing.estimators.base import (
    Estimates,
    Estimator,
)
from routing.estimators.neighbours import Neighbours
from routing.feedback.clusters import TaskClusters, fit_clusters
from routing.fitting.presets import PRESETS, choose_preset
from routing.fitting.saved_fit import (
    FitFacts,
    fit_facts,
    load_fitted,
    model_or_stand_in,
)
from routing.history.history import EmbeddedHistory
from routing.history.nearest import NeighbourIndex
from streams.config.cpus import library_threads
from streams.config.settings import Settings
from streams.planner.catalogue_rules import unusable_llms

log = structlog.get_logger(__name__)

MAX_OWN_SIMILARITIES, MIN_OWN_ROWS = 2**28, 2048
"""Similarities that neighbours of the history's own rows take at most, a few seconds, and rows that they may
always have. 2,000 samples price budgets as well as more do (docs/scaling.md)."""

STAND_IN_EFFECT = "queries without an embedding become dead letters"


@dataclass(frozen=True)
class Estimation:
    """An embedder and a matching estimator, and their history.

    Parameters
    ----------
    embedder : Embedder
    estimator : Estimator
    history : EmbeddedHistory
    preset, reason : str
        Name of the preset, and the reason for its choice.
    queries_per_second : float, optional
        Measured decisions from the raw prompt per second and core.
    clusters : TaskClusters, optional
        Of the history; None if estimates are not corrected by reported quality.
    """

    embedder: Embedder
    estimator: Estimator
    history: EmbeddedHistory
    preset: str = "paper"
    reason: str = "given"
    queries_per_second: float | None = None
    clusters: TaskClusters | None = None

    @property
    def planning(self) -> dict[str, Any]:
        """The preset's defaults for warm-up and prices, for `Settings.with_preset`."""
        return dict(PRESETS[self.preset].planning)

    @property
    def models(self) -> Sequence[str]:
        """LLMs of the history."""
        return self.estimator.models

    @property
    def dimension(self) -> int:
        """Length of an embedding, from the history, so that no model has to be loaded."""
        return int(self.history.embeddings.shape[1])

    def warm_up(self) -> None:
        """Load the embedding model before the first query, because torch takes tens of seconds.

        Raises
        ------
        Exception
            The model cannot embed a text.
        """
        if isinstance(self.embedder, MissingEmbedder):
            return
        began = time.monotonic()
        # two texts: some embedders take another way with one
        self.embedder.embed(["What is loaded now", "need not be loaded by the first queries."])
        log.info("embedder_loaded", seconds=round(time.monotonic() - began, 1))

    @cached_property
    def own_rows(self) -> IntArray:
        """Rows of the history that `leave_one_out` estimates: all, or a sample if neighbours take long."""
        count = len(self.history)
        sample = max(MIN_OWN_ROWS, MAX_OWN_SIMILARITIES // count)
        if not isinstance(self.estimator, Neighbours) or count <= sample:
            return np.arange(count)
        return np.sort(np.random.default_rng(0).choice(count, sample, replace=False))

    def leave_one_out(self) -> Estimates:
        """Return estimates for `own_rows`, each without itself, with their clusters; computed once."""
        return self._leave_one_out

    @cached_property
    def _leave_one_out(self) -> Estimates:
        if isinstance(self.estimator, Neighbours):
            own = self.estimator.leave_one_out(self.own_rows)
        else:
            own = self.estimator.leave_one_out()
        if self.clusters is None:
            return own
        return replace(own, cluster=self.clusters.nearest(self.history.embeddings[self.own_rows]))

    def cost_quantile(self, level: float) -> CostQuantile:
        """Return a quantile of the true cost over its leave-one-out estimate, by LLM."""
        own, actual = self.leave_one_out(), self.history.history.cost[self.own_rows]
        return CostQuantile.fit(level, self.estimator.models, own.cost, actual)

    def budgets(self, catalogue: Catalogue) -> tuple[Budget, ...]:
        """Return the budgets of a catalogue; a total is split by the history's means if it says so.

        LLMs without a history count as average ones.
        """
        quality, cost = self.history.history.quality.mean(0), self.history.history.cost.mean(0)
        row_of = {name: number for number, name in enumerate(self.history.models)}
        rows = [row_of.get(name, -1) for name in catalogue.names]
        return catalogue.resolve_budgets(
            np.append(quality, quality.mean())[rows], np.append(cost, cost.mean())[rows]
        )


class LoadedHistory(NamedTuple):
    """A loaded history with its embedder. The estimator is missing if it has to be built first."""

    embedder: Embedder
    history: EmbeddedHistory
    estimator: Estimator | None
    preset: str
    reason: str
    queries_per_second: float | None
    graph: NeighbourIndex | None = None
    """Neighbour index, if the settings name it and it was saved with the history."""

    @property
    def fitted(self) -> str | None:
        """Preset of the fitted history; None if it was not fitted."""
        return None if self.estimator is None else self.preset


def load_estimation(settings: Settings, catalogue: Catalogue) -> Estimation:
    """Load a fit of `python -m routing fit`, or build a neighbour estimator on a history without one.

    Raises
    ------
    ValueError
        No history is set, it was embedded by another model or fitted for another preset, or it shares no LLM
        with the catalogue.
    """
    loaded = load_history(settings)
    history = loaded.history
    estimation = Estimation(
        loaded.embedder,
        loaded.estimator or _neighbours(settings, history, loaded.graph),
        history,
        loaded.preset,
        loaded.reason,
        loaded.queries_per_second,
        fit_clusters(history.embeddings) if settings.quality_correction else None,
    )
    if set(history.models).isdisjoint(catalogue.names):
        raise ValueError("; ".join(unusable_llms(catalogue.names, history.models, settings.exploration)))
    if unknown := [name for name in catalogue.names if name not in history.models]:
        log.warning("models_without_history", models=unknown, exploration=settings.exploration)
    if isinstance(loaded.embedder, MissingEmbedder):
        log.warning("embedder_missing", reason=loaded.embedder.reason, effect=STAND_IN_EFFECT)
    log.info(
        "history_loaded",
        rows=len(history),
        models=len(history.models),
        digest=history.digest()[:12],
        preset=estimation.preset,
        reason=estimation.reason,
        queries_per_second=estimation.queries_per_second,
    )
    return estimation


def load_history(settings: Settings) -> LoadedHistory:
    """Load a history and its embedder without building an estimator, as a quick check of a worker's start.

    Raises
    ------
    ValueError, OSError
        As `load_estimation`.
    """
    if settings.history is None:
        raise ValueError("history: not set; set PORT_HISTORY to a folder made by `python -m routing fit`")
    try:
        facts = fit_facts(settings.history)
    except FileNotFoundError:
        return _plain(settings, settings.history)
    return _fitted(settings, settings.history, facts)


def load_plain_embedder(settings: Settings) -> Embedder:
    """Load the embedder for a history that was not fitted; a stand-in if its model is not installed.

    Raises
    ------
    ValueError
        The model does not exist.
    """
    model, threads = settings.embedder or DEFAULT, library_threads()
    try:
        if settings.history is None or not settings.history.exists():
            return load_embedder(model, threads=threads)
        return model_or_stand_in(settings.history, model, threads=threads)
    except EmbedderError as error:
        raise ValueError(f"embedder: {error}") from error


def _fitted(settings: Settings, folder: Path, facts: FitFacts) -> LoadedHistory:
    if settings.preset not in ("auto", facts.preset):
        raise ValueError(
            f"preset: {settings.preset!r} is set, but {folder} was fitted for {facts.preset!r}; "
            f"set PORT_PRESET={facts.preset} or run `python -m routing fit --preset {settings.preset}`"
        )
    embedder, estimator, history = load_fitted(folder, library_threads())
    return LoadedHistory(embedder, history, estimator, facts.preset, facts.reason, facts.queries_per_second)


def _plain(settings: Settings, folder: Path) -> LoadedHistory:
    embedder = load_plain_embedder(settings)
    history = EmbeddedHistory.load(folder, embedder.identity)
    if settings.preset not in ("auto", "paper"):
        choose_preset(len(history), settings.preset)  # raises if the history is too short for any fit
        raise ValueError(
            f"preset: {settings.preset!r} needs a fit; run `python -m routing fit --preset "
            f"{settings.preset}` and set PORT_HISTORY to its folder"
        )
    graph = history.load_index(folder) if settings.index == "hnsw" else None
    return LoadedHistory(embedder, history, None, "paper", "the history was not fitted", None, graph)


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
