"""The correction as a plan has it: evidence by LLM, absorbed from totals of ledgers, applied to estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates
from routing.feedback.correction import QualityCorrection

Evidence = dict[str, list[list[float]]]
"""By LLM, four lists of one number per task cluster: residual and weight of `QualityCorrection`, then the
answers and the sum of their residuals that all ledgers had when the evidence was last brought up to date."""

Totals = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""By LLM and task cluster: answers with a quality and their sum of reported minus estimated quality."""

UNKNOWN_CLUSTER = -1
"""Cluster of a query whose estimate is not corrected."""

DIGITS = 6
"""Decimal places of the numbers in a plan."""


def absorb(evidence: Evidence, totals: Totals, clusters: int) -> Evidence:
    """Return the evidence after the answers that were counted since.

    Parameters
    ----------
    evidence : dict
    totals : mapping
        Of all ledgers. Totals below those of the evidence are taken over without effect: the ledgers' topic
        was created again.
    clusters : int

    Examples
    --------
    >>> evidence = absorb({}, {"a": ([4.0], [-1.0])}, 1)
    >>> evidence["a"][2:], absorb(evidence, {"a": ([4.0], [-1.0])}, 1) == evidence
    ([[4.0], [-1.0]], True)
    """
    names = tuple(totals)
    if not names:
        return evidence
    empty = [[0.0] * clusters for _ in range(4)]
    before = np.array([evidence.get(name, empty) for name in names])
    counted = np.array([totals[name] for name in names])
    more = counted - before[:, 2:]
    more[(more[:, 0] < 0).any(1)] = 0
    if not more[:, 0].any():
        return evidence
    correction = QualityCorrection(before[:, 0], before[:, 1]).with_answers(more[:, 0], more[:, 1])
    after = np.stack([correction.residual, correction.weight, counted[:, 0], counted[:, 1]], axis=1)
    return {**evidence, **dict(zip(names, np.round(after, DIGITS).tolist(), strict=True))}


def restart(totals: Totals) -> Evidence:
    """Return evidence that no answer so far belongs to: the estimates or the clusters have changed."""
    return {
        name: [[0.0] * len(counts), [0.0] * len(counts), list(counts), list(residuals)]
        for name, (counts, residuals) in totals.items()
    }


def offsets_of(evidence: Evidence, models: Sequence[str]) -> FloatArray | None:
    """Return the amounts to add to estimated qualities, [M, K]; None if there are none to add."""
    if not evidence:
        return None
    clusters = len(next(iter(evidence.values()))[0])
    empty = [[0.0] * clusters] * 4
    numbers = np.array([evidence.get(name, empty) for name in models])
    offsets = QualityCorrection(numbers[:, 0], numbers[:, 1]).offsets()
    return offsets if offsets.any() else None


def corrected(estimates: Estimates, offsets: FloatArray | None) -> Estimates:
    """Return estimates with corrected qualities, within [0, 1].

    Parameters
    ----------
    estimates : Estimates
        Of n queries, [n, M]. Queries without a cluster stay as they are.
    offsets : ndarray of float64, shape [M, K], optional
    """
    if offsets is None or estimates.cluster is None or not len(estimates):
        return estimates
    known: IntArray = np.flatnonzero((estimates.cluster >= 0) & (estimates.cluster < offsets.shape[1]))
    quality = estimates.quality.copy()
    quality[known] = np.clip(quality[known] + offsets.T[estimates.cluster[known]], 0.0, 1.0)
    return replace(estimates, quality=quality)
