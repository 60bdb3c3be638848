"""The cost estimate: a non-negative mix of several estimates, weighted by their leave-one-out errors.

Candidates of LLM i on query j, with t_ij the cost that the text's counts predict and l_j its characters + 20:
text-neighbours t_ij mean(cost / t), length-neighbours l_j mean(cost / l) (means over similar history rows),
and the same two ratios or the cost itself by kernel regression (text-kernel, length-kernel, kernel).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from routing.cues import COUNTS
from routing.estimators.base import FloatArray
from routing.estimators.neighbours import LEAST_COST, LENGTH_OFFSET

NEIGHBOUR_PARTS = ("text-neighbours", "length-neighbours")
KERNEL_PARTS = ("text-kernel", "length-kernel", "kernel")
PARTS = NEIGHBOUR_PARTS + KERNEL_PARTS

_LEAST_TEXT_COST = 1e-9  # USD; keeps the ratio to it finite
_PULL = 20.0  # how strongly each LLM's weights are drawn to those common to all
_FLOOR = 0.3  # of the smallest cost seen


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
        """Least squares of relative errors: rows weighted by 1 / (characters + 20).

        Parameters
        ----------
        features : ndarray of float64, shape [H, 38]
            Counts and cues of the history.
        cost : ndarray of float64, shape [H, M]
            USD.
        """
        counts = features[:, : len(COUNTS)]
        weight = 1 / lengths(features)
        rows = counts * weight
        scale = np.sqrt((rows**2).mean(axis=0)) + 1e-12
        # Normal equations first: the counts are few, the history may be long.
        gram, right = (rows / scale).T @ (rows / scale), (rows / scale).T @ (cost * weight)
        factor = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram)))
        reduced = np.linalg.solve(factor, right)
        found = np.stack([nnls(factor.T, column)[0] for column in reduced.T], axis=1)
        return cls(found / scale[:, None])

    def predict(self, features: FloatArray) -> FloatArray:
        """USD, [n, M]."""
        return np.maximum(features[:, : len(COUNTS)] @ self.coefficients, _LEAST_TEXT_COST)


def lengths(features: FloatArray) -> FloatArray:
    """Characters + 20 of each text, as a column [n, 1]."""
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
        """Cost in USD, [n, M], of candidates in the order of `parts`."""
        out = np.broadcast_to(self.mean * (1 - self.weights.sum(axis=1)), candidates[0].shape).copy()
        for candidate, weight in zip(candidates, self.weights.T, strict=True):
            out += candidate * weight
        return np.maximum(out, self.floor)


def ratio_base(part: str, features: FloatArray, text: FloatArray, mean: FloatArray) -> FloatArray:
    """What a part's ratio is multiplied by: the text's cost, its length, or the mean cost; [n, M]."""
    if part.startswith("text"):
        return text
    if part.startswith("length"):
        return np.broadcast_to(lengths(features), text.shape)
    return np.broadcast_to(mean, text.shape)


def fit_mix(
    text: TextCost, parts: Sequence[str], leave_one_out: Sequence[FloatArray], cost: FloatArray
) -> tuple[CostMix, FloatArray]:
    """Weigh the candidates.

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
    models, many = cost.shape[1], len(parts)
    common = _nnls(np.einsum("hmc,hmd->cd", centred, centred), np.einsum("hmc,hm->c", centred, truth))
    weights = np.empty((models, many))
    for i in range(models):
        gram, right = centred[:, i].T @ centred[:, i], centred[:, i].T @ truth[:, i]
        pull = _PULL * np.trace(gram) / len(cost) / many
        weights[i] = _nnls(gram + pull * np.eye(many), right + pull * common)
    floor = np.maximum(_FLOOR * cost.min(axis=0), LEAST_COST)
    mix = CostMix(text, tuple(parts), weights, mean, floor)
    return mix, mix.combine(leave_one_out)


def _nnls(gram: FloatArray, right: FloatArray) -> FloatArray:
    """Non-negative least squares from the normal equations."""
    factor = np.linalg.cholesky(gram + (1e-9 * np.trace(gram) / len(gram) + 1e-300) * np.eye(len(gram)))
    return nnls(factor.T, np.linalg.solve(factor, right))[0]
