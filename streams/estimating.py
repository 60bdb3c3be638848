"""What a worker estimates with: embedder and estimator by the settings' preset, on the saved history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import structlog

from routing.catalogue import Catalogue
from routing.embedding import Embedder, load_embedder
from routing.estimators.base import Estimates, Estimator, FloatArray
from routing.estimators.neighbours import Neighbours
from routing.history import EmbeddedHistory
from streams.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Estimating:
    """An embedder and an estimator that fit each other, and the history they rest on."""

    embedder: Embedder
    estimator: Estimator
    history: EmbeddedHistory

    @property
    def dimension(self) -> int:
        """Length of an embedding, as the history has it: no model has to be loaded to know it."""
        return int(self.history.embeddings.shape[1])

    def leave_one_out(self) -> Estimates:
        """Estimates for the history's own rows, [H, M]."""
        return self.estimator.leave_one_out()

    def budgets(self, catalogue: Catalogue) -> FloatArray:
        """USD a period of every LLM of a catalogue; those without a history count as mean ones."""
        quality, cost = self.history.history.quality.mean(0), self.history.history.cost.mean(0)
        where = {name: number for number, name in enumerate(self.history.models)}
        rows = [where.get(name, -1) for name in catalogue.names]
        return catalogue.budgets(np.append(quality, quality.mean())[rows], np.append(cost, cost.mean())[rows])


def load_estimating(settings: Settings, catalogue: Catalogue) -> Estimating:
    """Load what the settings ask for.

    Raises
    ------
    ValueError
        No history is set, it was embedded by another model, or it has none of the catalogue's LLMs.
    """
    if settings.history is None:
        raise ValueError("history: not set; set PORT_HISTORY to the folder that `producers.prepare` saved")
    embedder = load_embedder(settings.embedder) if settings.embedder else load_embedder()
    history = EmbeddedHistory.load(settings.history, embedder.identity)
    if not set(history.models) & set(catalogue.names):
        raise ValueError(
            f"catalogue: none of {', '.join(catalogue.names)} is in the history, which has "
            f"{', '.join(history.models)}; correct the names"
        )
    if unknown := [name for name in catalogue.names if name not in history.models]:
        log.warning("models_without_history", models=unknown, exploration=settings.exploration)
    estimator = Neighbours(
        history,
        k=min(settings.k, len(history)),
        weights=settings.weighting,
        cost=settings.cost_estimate,
        index=settings.index,
    )
    log.info(
        "history_loaded", rows=len(history), models=len(history.models), digest=history.digest()[:12],
        preset=settings.preset,
    )  # fmt: skip
    return Estimating(embedder, estimator, history)
