"""Registry of the estimators that presets can choose."""

from __future__ import annotations

from pathlib import Path

from routing.arrays import FloatArray
from routing.estimators.base import EstimatorSettings, FittedEstimator, OnStep
from routing.estimators.neighbours import Neighbours, NeighbourSettings
from routing.estimators.ridge import RidgeEstimator
from routing.estimators.ridge_settings import RidgeSettings
from routing.history.history import EmbeddedHistory

ESTIMATORS: dict[str, type[FittedEstimator]] = {
    NeighbourSettings.kind: Neighbours,
    RidgeSettings.kind: RidgeEstimator,
}
"""Estimators by the `kind` of their settings."""


def fit_estimator(
    history: EmbeddedHistory,
    settings: EstimatorSettings,
    features: FloatArray | None = None,
    on_step: OnStep | None = None,
) -> FittedEstimator:
    """Fit the estimator of these settings to a history; see `FittedEstimator.fit`."""
    return ESTIMATORS[settings.kind].fit(history, settings, features, on_step)


def load_estimator(folder: Path, history: EmbeddedHistory, settings: EstimatorSettings) -> FittedEstimator:
    """Load the estimator of these settings from a folder; see `FittedEstimator.load`."""
    return ESTIMATORS[settings.kind].load(folder, history, settings)
