"""Sums of the qualities that outcomes report for one LLM."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class ReportedQuality:
    """Sums over the outcomes of one LLM that carry a quality, of all periods.

    Parameters
    ----------
    count : int
        Outcomes with a quality.
    quality : float
        Sum of their qualities.
    estimated : float
        Sum of the qualities that were estimated for them.
    cost : float
        Sum of their costs, in USD.

    Examples
    --------
    >>> ReportedQuality().with_answer(0.75, estimated=0.5, cost=0.25).to_list()
    [1, 0.75, 0.5, 0.25]
    """

    count: int = 0
    quality: float = 0.0
    estimated: float = 0.0
    cost: float = 0.0

    def with_answer(self, quality: float, estimated: float, cost: float) -> ReportedQuality:
        """Return the sums with one more outcome."""
        return self + ReportedQuality(1, quality, estimated, cost)

    def __add__(self, other: ReportedQuality) -> ReportedQuality:
        """Return the sums over the outcomes of both."""
        return ReportedQuality(
            self.count + other.count,
            self.quality + other.quality,
            self.estimated + other.estimated,
            self.cost + other.cost,
        )

    def to_list(self) -> list[float]:
        """Return the sums as a ledger's message has them."""
        return list(astuple(self))
