"""Interface of estimators: a batch of queries in, quality and cost for every LLM out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.embedding.query_batch import QueryBatch

if TYPE_CHECKING:
    from routing.history.history import EmbeddedHistory

OnStep = Callable[[str], None]
"""Called with a description after each step of a fit."""


@dataclass(frozen=True)
class Estimates:
    """Estimated quality and cost of every LLM on every query (d^ and g^ of the paper, section 3).

    Parameters
    ----------
    quality : ndarray of float64, shape [n, M]
        In [0, 1].
    cost : ndarray of float64, shape [n, M]
        USD, positive.
    cluster : ndarray of int64, shape [n], optional
        Task cluster of each query; None if estimates are not corrected by reported quality.
    """

    quality: FloatArray
    cost: FloatArray
    cluster: IntArray | None = None

    def __post_init__(self) -> None:
        if self.quality.ndim != 2 or self.quality.shape != self.cost.shape:
            raise ValueError(f"quality {self.quality.shape} and cost {self.cost.shape} must both be [n, M]")

    def __len__(self) -> int:
        return len(self.quality)

    def rows(self, index: slice | NDArray[np.intp]) -> Estimates:
        """Return the estimates of some of the queries."""
        cluster = None if self.cluster is None else self.cluster[index]
        return Estimates(self.quality[index], self.cost[index], cluster)


class Estimator(Protocol):
    """Estimates quality and cost from a history of answered queries, without training by gradient."""

    models: tuple[str, ...]

    def estimate(self, batch: QueryBatch) -> Estimates:
        """Return estimates for new queries, [n, M]; rows depend on each other by rounding errors only."""
        ...

    def leave_one_out(self) -> Estimates:
        """Return estimates for the history's own rows, [H, M], each made without that row's answers."""
        ...


class FitEffort(NamedTuple):
    """Expected effort of fitting an estimator."""

    operations: float
    """Floating point operations."""
    memory: int
    """Bytes at the peak."""


class EstimatorSettings(Protocol):
    """Settings of an estimator; a preset chooses its estimator by them."""

    kind: ClassVar[str]
    """Name of the estimator in `routing.estimators.registry`."""

    def sized_for(self, rows: int) -> tuple[EstimatorSettings, str | None]:
        """Return the settings for a history of this many rows, and the reason for a choice that was made."""
        ...

    def effort(self, rows: int) -> FitEffort:
        """Return the expected effort of a fit to a history of this many rows."""
        ...

    def fits_words(self, rows: int) -> bool:
        """Return whether a fit to a history of this many rows includes a table of hashed words."""
        ...


class FittedEstimator(Estimator, Protocol):
    """An estimator that the registry can fit, save and load."""

    @classmethod
    def fit(
        cls,
        history: EmbeddedHistory,
        settings: Any,
        features: FloatArray | None = None,
        on_step: OnStep | None = None,
    ) -> Self:
        """Fit the estimator to a history.

        Parameters
        ----------
        history : EmbeddedHistory
            H answered queries.
        settings : EstimatorSettings
            Of this estimator's kind.
        features : ndarray of float64, shape [H, 38], optional
            Counts and cues of the history's prompts, if they are computed already.
        on_step : callable, optional
            Called after each step.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the fit to a folder. The history is saved elsewhere."""
        ...

    @classmethod
    def load(cls, folder: Path, history: EmbeddedHistory, settings: Any) -> Self:
        """Read a fit from a folder.

        Parameters
        ----------
        folder : path
            As given to `save`.
        history : EmbeddedHistory
            The history of the fit.
        settings : EstimatorSettings
            Of the preset; settings saved with the fit take precedence.
        """
        ...
