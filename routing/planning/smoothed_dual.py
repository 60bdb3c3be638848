"""Smoothed duals and their minimum by projected Newton steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray

TAUS = (0.1, 0.03, 0.01, 0.003)
"""Smoothing of each stage, in units of quality."""

WARM_TAUS = (0.03, 0.01, 0.003)
"""The same from the prices of a former solution."""

MAX_ITERATIONS = 40
MIN_TAU = 1e-6

DrawsT = TypeVar("DrawsT")
"""Draws of a soft assignment, which its gradient and its Newton step share."""


class SmoothedDual(ABC, Generic[DrawsT]):
    """A dual per query, F(y) = limit.y + sum_j m_j tau log(1 + sum_i exp(s_ji / tau)), over y >= 0.

    Parameters
    ----------
    limit : ndarray of float64, shape [K]
        For each variable.
    mass : ndarray of float64, shape [n]
        Weights of the queries; their sum is 1.
    """

    def __init__(self, limit: FloatArray, mass: FloatArray) -> None:
        self.limit, self.mass = limit, mass
        self.gap = np.inf
        """Share of the dual value by which it may exceed the optimum, as last certified."""

    @abstractmethod
    def scaled_scores(self, y: FloatArray, tau: float) -> FloatArray:
        """Return the scores divided by tau, [M, n], in an array that the caller may change."""

    @abstractmethod
    def gradient(self, share: FloatArray) -> tuple[FloatArray, DrawsT]:
        """Return the gradient at a soft assignment, [K], and the draws that it was computed from."""

    @abstractmethod
    def newton_step(
        self, share: FloatArray, draws: DrawsT, gradient: FloatArray, free: NDArray[np.bool_], tau: float
    ) -> FloatArray:
        """Return the Newton step of the free variables, without limits to its length."""

    @abstractmethod
    def certify(self, y: FloatArray, share: FloatArray) -> None:
        """Set `gap` by the soft assignment, scaled down to the limits."""

    def value(self, y: FloatArray, tau: float) -> tuple[float, FloatArray]:
        """Return the smoothed dual, and the soft assignment, [M, n], whose draws give its gradient."""
        z = self.scaled_scores(y, tau)
        top = np.maximum(z.max(axis=0), 0)
        z -= top
        np.exp(z, out=z)
        total = z.sum(axis=0)
        total += np.exp(-top)
        z /= total
        return float(self.limit @ y + tau * (self.mass @ (top + np.log(total)))), z

    def descend(self, y: FloatArray, stages: Sequence[float], tolerance: float) -> FloatArray:
        """Minimise stage by stage, and further below the last tau until the gap is within the tolerance."""
        for tau in stages:
            y = self.minimise(y, tau)
        tau = stages[-1]
        while self.gap > tolerance and tau > MIN_TAU:
            tau /= 3
            y = self.minimise(y, tau)
        return y

    def minimise(self, y: FloatArray, tau: float) -> FloatArray:
        """Run projected Newton steps with backtracking from y, and certify the result."""
        value, share = self.value(y, tau)
        for _ in range(MAX_ITERATIONS):
            gradient, draws = self.gradient(share)
            free = ~((y <= 1e-12) & (gradient > 0))
            if not free.any():
                break
            step = np.zeros(len(y))
            step[free] = self.newton_step(share, draws, gradient, free, tau)
            reach = np.maximum(0.5, y)  # Doubling reaches prices far from the start.
            step = np.clip(step, -reach, reach)
            length = 1.0
            while length > 1e-4:
                moved = np.maximum(y + length * step, 0)
                next_value, next_share = self.value(moved, tau)
                if next_value <= value + 1e-4 * gradient @ (moved - y):
                    break
                length *= 0.4
            else:
                break
            gain, y, value, share = value - next_value, moved, next_value, next_share
            if gain < min(2e-6, 1e-3 * tau):
                break
        self.certify(y, share)
        return y
