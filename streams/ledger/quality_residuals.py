"""Sums of reported minus estimated quality of one LLM, by task cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True)
class QualityResiduals:
    """Sums over the outcomes of one LLM that carry a quality, of all periods, by task cluster.

    Parameters
    ----------
    answers : tuple of float
        Outcomes with a quality.
    residuals : tuple of float
        Sums of reported minus uncorrected estimated quality.

    Examples
    --------
    >>> QualityResiduals().with_answer(1, 0.25).to_list()
    [[0.0, 1.0], [0.0, 0.25]]
    """

    answers: tuple[float, ...] = ()
    residuals: tuple[float, ...] = ()

    @classmethod
    def of(cls, answers: Sequence[float], residuals: Sequence[float]) -> QualityResiduals:
        """Return the sums of `to_list`."""
        return cls(tuple(answers), tuple(residuals))

    def with_answer(self, cluster: int, residual: float) -> QualityResiduals:
        """Return the sums with one more outcome."""
        return self + QualityResiduals((*[0.0] * cluster, 1.0), (*[0.0] * cluster, residual))

    def __add__(self, other: QualityResiduals) -> QualityResiduals:
        """Return the sums over the outcomes of both."""
        return QualityResiduals(
            _sum_vectors(self.answers, other.answers), _sum_vectors(self.residuals, other.residuals)
        )

    def to_list(self) -> list[list[float]]:
        """Return the sums as a ledger's message has them."""
        return [list(self.answers), list(self.residuals)]


def _sum_vectors(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0.0))
