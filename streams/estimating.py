"""What a worker estimates with: embedder and estimator by the settings' preset, on the saved history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import structlog

from routing.catalogue import Catalogue
from routing.embedding import Embedder, load_embedder
from routing.estimators.base import Estimates, Estimator
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

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean quality and cost (USD) by LLM over the history, each [M]."""
        return self.history.history.quality.mean(0), self.history.history.cost.mean(0)


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
    history = EmbeddedHistory.load(settings.history, embedder.identity).with_models(catalogue.names)
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
