"""Adjustments of the best quality estimates: calibration, difficulty models, shrinkage, caution.

The router uses none of them; docs/results.md has their results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression, minimize

from experiments.cases import EstimateSource, Split
from routing.arrays import FloatArray
from routing.estimators.base import Estimates

Adjust = Callable[[FloatArray], FloatArray]

FITTED = ("isotonic", "linear", "difficulty")
SCALED = ("rank", "shrink", "cautious")
"""Names that are followed by a number."""


@dataclass(frozen=True)
class AdjustedSource:
    """Another source's estimates, with the quality adjusted by its leave-one-out errors in the history.

    Parameters
    ----------
    base : EstimateSource
        A source with leave-one-out estimates.
    how : str
        `isotonic`, `linear`, `difficulty`, `rank` and a number, `shrink` and a factor, or `cautious` and a
        factor.
    """

    base: EstimateSource
    how: str

    def __post_init__(self) -> None:
        if self.how in FITTED:
            return
        for name in SCALED:
            if self.how.startswith(name):
                float(self.how[len(name) :])
                return
        raise ValueError(f"adjust: {self.how!r} is not one of {', '.join((*FITTED, *SCALED))}")

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        return f"adjusted {self.how} {self.base.key}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        test, own = split.estimates(self.base)
        if own is None:
            raise ValueError(f"adjust: {self.base.key} has no leave-one-out estimates of the history")
        adjust = adjustment(self.how, own.quality, split.data.quality[split.past])
        return (
            Estimates(np.clip(adjust(test.quality), 0, 1), test.cost),
            Estimates(np.clip(adjust(own.quality), 0, 1), own.cost),
        )


def adjustment(how: str, own: FloatArray, truth: FloatArray) -> Adjust:
    """Fit the adjustment of a name on the history.

    Raises
    ------
    ValueError
        Unknown name.
    """
    if how == "isotonic":
        return _isotonic(own, truth)
    if how == "linear":
        return _linear(own, truth)
    if how == "difficulty":
        return _difficulty(own, truth)
    for name, make in (("rank", _rank), ("shrink", _shrink), ("cautious", _cautious)):
        if how.startswith(name):
            return make(own, float(how[len(name) :]))
    raise ValueError(f"adjust: {how!r} is not isotonic, linear, difficulty, rank, shrink or cautious")


def _isotonic(own: FloatArray, truth: FloatArray) -> Adjust:
    """Map each LLM's estimates by isotonic regression."""
    steps = []
    for i in range(own.shape[1]):
        order = np.argsort(own[:, i], kind="stable")
        steps.append((own[order, i], isotonic_regression(truth[order, i]).x))
    return lambda d: np.stack([np.interp(d[:, i], *step) for i, step in enumerate(steps)], axis=1)


def _linear(own: FloatArray, truth: FloatArray) -> Adjust:
    """Rescale each LLM's estimates around their mean by least squares."""
    mean, level = own.mean(axis=0), truth.mean(axis=0)
    slope = ((own - mean) * (truth - level)).sum(axis=0) / ((own - mean) ** 2).sum(axis=0)
    return lambda d: level + slope * (d - mean)


def _difficulty(own: FloatArray, truth: FloatArray) -> Adjust:
    """Average the estimate and an item response model with a difficulty per query and two values per LLM."""
    logit = lambda d: np.log(np.clip(d, 0.01, 0.99) / np.clip(1 - d, 0.01, 0.99)).mean(axis=1)  # noqa: E731
    theta = logit(own)

    def fit(answers: FloatArray) -> FloatArray:
        def loss(ab: FloatArray) -> tuple[float, FloatArray]:
            z = ab[0] * theta + ab[1]
            error = 1 / (1 + np.exp(-z)) - answers
            value = float((np.logaddexp(0, z) - answers * z).mean())
            return value, np.array([(error * theta).mean(), error.mean()])

        return np.asarray(minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x)

    slopes = np.stack([fit(truth[:, i]) for i in range(truth.shape[1])])
    return lambda d: (d + 1 / (1 + np.exp(-(np.outer(logit(d), slopes[:, 0]) + slopes[:, 1])))) / 2


def _rank(own: FloatArray, rank: float) -> Adjust:
    """Project the estimates on their first `rank` principal axes, taken as latent abilities."""
    mean = own.mean(axis=0)
    axes = np.linalg.svd(own - mean, full_matrices=False)[2][: int(rank)]
    return lambda d: mean + (d - mean) @ axes.T @ axes


def _shrink(own: FloatArray, factor: float) -> Adjust:
    """Scale an LLM's deviation from the query's mean by a factor."""
    mean = own.mean(axis=0)

    def adjust(d: FloatArray) -> FloatArray:
        level = (d - mean).mean(axis=1, keepdims=True)
        return mean + level + factor * (d - mean - level)

    return adjust


def _cautious(_: FloatArray, factor: float) -> Adjust:
    """Subtract a factor times the standard deviation of a Bernoulli variable with the estimate's mean."""
    return lambda d: d - factor * np.sqrt(np.clip(d * (1 - d), 0, None))
