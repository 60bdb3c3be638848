"""Off-line evaluation of a policy on decisions that another policy made with known probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing.arrays import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class LoggedDecisions:
    """Decisions with their probabilities, and the qualities of the answers.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
        LLM that answered.
    probability : ndarray of float64, shape [n]
        Probability with which it was chosen, above 0.
    quality : ndarray of float64, shape [n]
        Reported.

    Raises
    ------
    ValueError
        A probability is not above 0 and at most 1.
    """

    choice: IntArray
    probability: FloatArray
    quality: FloatArray

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~((self.probability > 0) & (self.probability <= 1)))
        if len(bad):
            raise ValueError(
                f"probability: {self.probability[bad[0]]} of decision {bad[0]} must be above 0 and at most 1"
            )


@dataclass(frozen=True)
class PolicyValue:
    """Estimated mean quality of a policy, and the standard error of the estimate."""

    mean: float
    error: float


def inverse_propensity(logged: LoggedDecisions, target: FloatArray) -> PolicyValue:
    """Weight each answer by how much more often the policy would have asked for it.

    Unbiased if the logged decisions could have chosen every LLM that the policy chooses (Horvitz and
    Thompson, 1952).

    Parameters
    ----------
    logged : LoggedDecisions
    target : ndarray of float64, shape [n, M]
        Probability with which the policy chooses each LLM; rows sum to at most 1, the rest is unserved.

    Examples
    --------
    >>> logged = LoggedDecisions(np.array([0, 1]), np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    >>> inverse_propensity(logged, np.array([[1.0, 0.0], [1.0, 0.0]])).mean
    1.0
    """
    return _value(_weights(logged, target) * logged.quality)


def doubly_robust(logged: LoggedDecisions, target: FloatArray, estimated: FloatArray) -> PolicyValue:
    """Correct a model of the quality by weighted errors of the model (Dudik, Langford and Li, 2011).

    Unbiased if the probabilities or the model are right; the better the model, the smaller the error.

    Parameters
    ----------
    logged : LoggedDecisions
    target : ndarray of float64, shape [n, M]
        As for `inverse_propensity`.
    estimated : ndarray of float64, shape [n, M]
        Estimated quality, independent of these answers.
    """
    modelled = estimated[np.arange(len(logged.choice)), logged.choice]
    expected = (target * estimated).sum(1)
    return _value(expected + _weights(logged, target) * (logged.quality - modelled))


def _weights(logged: LoggedDecisions, target: FloatArray) -> FloatArray:
    weights: FloatArray = target[np.arange(len(logged.choice)), logged.choice] / logged.probability
    return weights


def _value(values: FloatArray) -> PolicyValue:
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return PolicyValue(float(values.mean()), deviation / np.sqrt(max(1, len(values))))
