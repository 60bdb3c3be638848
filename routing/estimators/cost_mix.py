"""The cost estimate: a non-negative mix of several estimates, weighted by their leave-one-out errors.

Candidates of LLM i on query j, with t_ij the cost that the text's counts predict and l_j its characters + 20:
text-neighbours t_ij mean(cost / t), length-neighbours l_j mean(cost / l) (means over similar history rows),
and the same two ratios or the cost itself by kernel regression (text-kernel, length-kernel, kernel).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routing.arrays import FloatArray
from routing.embedding.text_features import COUNTS
from routing.estimators.neighbours import LEAST_COST, LENGTH_OFFSET

NEIGHBOUR_PARTS = ("text-neighbours", "length-neighbours")
KERNEL_PARTS = ("text-kernel", "length-kernel", "kernel")
PARTS = NEIGHBOUR_PARTS + KERNEL_PARTS

MIN_TEXT_COST = 1e-9  # USD; keeps the ratio to it finite
COMMON_WEIGHT_PULL = 20.0  # strength that pulls each LLM's weights to those common to all
FLOOR_SHARE = 0.3  # of the smallest cost in the history


@dataclass(frozen=True)
class TextCost:
    """Cost linear in the text counts, with coefficients that are not negative.

    Parameters
    ----------
    coefficients : ndarray of float64, shape [11, M]
        USD a count.
    """

    coefficients: FloatArray

    @classmethod
    def fit(cls, features: FloatArray, cost: FloatArray) -> TextCost:
        """Fit by least squares of relative errors: rows are weighted by 1 / (characters + 20).

        Parameters
        ----------
        features : ndarray of float64, shape [H, 38]
            Counts and cues of the history.
        cost : ndarray of float64, shape [H, M]
            USD.
        """
        from scipy.optimize import nnls

        counts = features[:, : len(COUNTS)]
        weight = 1 / lengths(features)
        rows = counts * weight
        scale = np.sqrt((rows**2).mean(axis=0)) + 1e-12
        # Normal equations first: the counts are few, the history may be long.
        gram, right = (rows / scale).T @ (rows / scale), (rows / scale).T @ (cost * weight)
        factor = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram)))
        reduced = np.linalg.solve(factor, right)
        solution = np.stack([nnls(factor.T, column)[0] for column in reduced.T], axis=1)
        return cls(solution / scale[:, None])

    def predict(self, features: FloatArray) -> FloatArray:
        """Return the cost in USD, [n, M]."""
        return np.maximum(features[:, : len(COUNTS)] @ self.coefficients, MIN_TEXT_COST)


def lengths(features: FloatArray) -> FloatArray:
    """Return characters + 20 of each text as a column, [n, 1]."""
    return features[:, :1] + LENGTH_OFFSET


@dataclass(frozen=True)
class CostMix:
    """The fitted mix: cost = mean + sum_c w_ic (candidate_c - mean), not below the floor.

    Parameters
    ----------
    text : TextCost
        For the candidates that need it.
    parts : tuple of str, length C
        Names out of `PARTS`.
    weights : ndarray of float64, shape [M, C]
        Not negative.
    mean, floor : ndarray of float64, shape [M]
        USD.
    """

    text: TextCost
    parts: tuple[str, ...]
    weights: FloatArray
    mean: FloatArray
    floor: FloatArray

    def combine(self, candidates: Sequence[FloatArray]) -> FloatArray:
        """Return the cost in USD, [n, M], of candidates in the order of `parts`."""
        out = np.broadcast_to(self.mean * (1 - self.weights.sum(axis=1)), candidates[0].shape).copy()
        for candidate, weight in zip(candidates, self.weights.T, strict=True):
            out += candidate * weight
        cost: FloatArray = np.maximum(out, self.floor)
        return cost


def ratio_base(part: str, features: FloatArray, text: FloatArray, mean: FloatArray) -> FloatArray:
    """Return the factor of a part's ratio: the text's cost, its length, or the mean cost; [n, M]."""
    if part.startswith("text"):
        return text
    if part.startswith("length"):
        return np.broadcast_to(lengths(features), text.shape)
    return np.broadcast_to(mean, text.shape)


def fit_mix(
    text: TextCost, parts: Sequence[str], leave_one_out: Sequence[FloatArray], cost: FloatArray
) -> tuple[CostMix, FloatArray]:
    """Fit the weights of the candidates.

    Parameters
    ----------
    text : TextCost
        Kept with the mix.
    parts : sequence of str, length C
    leave_one_out : sequence of C ndarrays of float64, shape [H, M]
        Each candidate's estimates of the history, USD.
    cost : ndarray of float64, shape [H, M]
        The true cost, USD.

    Returns
    -------
    mix : CostMix
    leave_one_out : ndarray of float64, shape [H, M]
        The mix's estimates of the history.
    """
    mean = cost.mean(axis=0)
    unit = np.maximum(mean, LEAST_COST)
    centred = np.stack([(candidate - mean) / unit for candidate in leave_one_out], axis=2)
    truth = (cost - mean) / unit
    models, count = cost.shape[1], len(parts)
    common = _nnls(np.einsum("hmc,hmd->cd", centred, centred), np.einsum("hmc,hm->c", centred, truth))
    weights = np.empty((models, count))
    for i in range(models):
        gram, right = centred[:, i].T @ centred[:, i], centred[:, i].T @ truth[:, i]
        pull = COMMON_WEIGHT_PULL * np.trace(gram) / len(cost) / count
        weights[i] = _nnls(gram + pull * np.eye(count), right + pull * common)
    floor = np.maximum(FLOOR_SHARE * cost.min(axis=0), LEAST_COST)
    mix = CostMix(text, tuple(parts), weights, mean, floor)
    return mix, mix.combine(leave_one_out)


def _nnls(gram: FloatArray, right: FloatArray) -> FloatArray:
    """Solve non-negative least squares by the normal equations."""
    from scipy.optimize import nnls

    factor = np.linalg.cholesky(gram + (1e-9 * np.trace(gram) / len(gram) + 1e-300) * np.eye(len(gram)))
    solution: FloatArray = nnls(factor.T, np.linalg.solve(factor, right))[0]
    return solution
