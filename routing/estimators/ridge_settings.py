"""Settings of the ridge estimator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from routing.embedding.bytes_embedder import SMALLEST_HISTORY
from routing.estimators.base import FitEffort
from routing.estimators.cost_mix import PARTS
from routing.estimators.features import CUE_WEIGHT

EXACT_ROWS = 16_000
"""Longest history for the exact kernel: 1 GB and about a minute per core. Both grow fast beyond."""

FAST_LANDMARKS = 8_000
"""Landmarks that replace the exact kernel on longer histories."""

MEAN_FITS = 3
"""Kernels of the grid that a fit tries on average."""

GRID = ((0.5, 3.0), (1.0, 2.0), (2.0, 1.0), (2.0, 0.6))
"""(gamma, lam) of the kernel from smooth to sharp; the smallest leave-one-out error of quality wins."""


@dataclass(frozen=True)
class RidgeSettings:
    """Parts of the ridge estimator; each part can be left out to measure its effect.

    Parameters
    ----------
    landmarks : int, optional
        Landmarks of the kernel; None is the exact kernel on every history row.
    cue_weight : float
        Weight of the standardised cues beside the embedding; 0 leaves them out.
    words : int
        Dimensions of an embedding of the prompt's words beside the embedding; 0 leaves it out. A history
        that is too short for it leaves it out too.
    across : bool
        Correct the estimates across LLMs.
    cost_parts : tuple of str
        Candidates of the cost estimate, out of `routing.estimators.cost_mix.PARTS`.
    neighbours : int
        Neighbours of the two candidates that need them.
    grid : tuple of (gamma, lam)
        Kernels to choose from by leave-one-out error, from smooth to sharp.
    seed : int
        Of the draw of landmarks.
    """

    kind: ClassVar[str] = "ridge"

    landmarks: int | None = None
    cue_weight: float = CUE_WEIGHT
    words: int = 0
    across: bool = True
    cost_parts: tuple[str, ...] = ("text-neighbours", "length-neighbours", "kernel")
    neighbours: int = 20
    grid: tuple[tuple[float, float], ...] = GRID
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [part for part in self.cost_parts if part not in PARTS]
        if unknown or not self.cost_parts:
            raise ValueError(f"cost_parts: {unknown or 'empty'}; choose from {', '.join(PARTS)}")
        if not self.grid:
            raise ValueError("grid: empty; give at least one (gamma, lam)")

    def sized_for(self, rows: int) -> tuple[RidgeSettings, str | None]:
        """Return the settings for a history of this many rows, and the reason for the kernel.

        Examples
        --------
        >>> RidgeSettings().sized_for(20_000)[0].landmarks
        8000
        """
        landmarks = self.landmarks
        if landmarks is None and rows > EXACT_ROWS:
            landmarks = FAST_LANDMARKS
            reason = f"{landmarks:,} landmarks, as {rows:,} rows are more than {EXACT_ROWS:,}"
        elif landmarks is not None and landmarks >= rows:
            landmarks = None
            reason = f"exact kernel, as {rows:,} rows are fewer than the landmarks"
        elif landmarks is None:
            reason = f"exact kernel, as {rows:,} rows are at most {EXACT_ROWS:,}"
        else:
            reason = f"{landmarks:,} landmarks, so that a decision does not grow with the history"
        return replace(self, landmarks=landmarks), reason

    def effort(self, rows: int) -> FitEffort:
        """Return the expected effort of a fit to a history of this many rows."""
        if self.landmarks is None:
            return FitEffort(MEAN_FITS * 1.2 * rows**3, 5 * rows * rows)
        count = self.landmarks
        operations = MEAN_FITS * (3.0 * rows * count * count + count**3 / 3)
        return FitEffort(operations, 20 * count * count + 8 * 4096 * count)

    def fits_words(self, rows: int) -> bool:
        """Return whether a fit to a history of this many rows includes a table of hashed words."""
        return self.words > 0 and rows >= SMALLEST_HISTORY
