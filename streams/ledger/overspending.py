"""Overspending: actual cost above a budget, its amount and its cause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from routing.budgets.money import to_usd
from streams.ledger.period_summary import PeriodSummary

BOUND, ESTIMATE = "bound", "estimate"


@dataclass(frozen=True)
class Overspending:
    """An LLM whose cost in a period is above its budget; amounts are picodollars.

    Parameters
    ----------
    period : int
    model : str
    budget : int
    settled : int
        Actual cost of the answered queries.
    reserved_for_settled : int
        Reservations of the answered queries.
    open : int
        Open reservations.
    reserve : str, optional
        The setting `reserve` of the queries; None if unknown.
    """

    period: int
    model: str
    budget: int
    settled: int
    reserved_for_settled: int
    open: int
    reserve: str | None = None

    @property
    def real(self) -> bool:
        """True if the answered queries alone cost more than the budget."""
        return self.settled > self.budget

    @property
    def share(self) -> float | None:
        """Cost over the budget, None without one. Open reservations count if the actual cost is within it."""
        cost = self.settled if self.real else self.settled + self.open
        return cost / self.budget if self.budget > 0 else None

    @property
    def cost_ratio(self) -> float | None:
        """Actual cost over the reservations of the same queries; None without reservations."""
        return self.settled / self.reserved_for_settled if self.reserved_for_settled > 0 else None

    def text(self) -> str:
        """Return one line for people: the LLM, per cent of its budget, amounts and the cause."""
        share = "its budget is 0" if self.share is None else percent(self.share)
        settled, budget = usd(self.settled), usd(self.budget)
        if self.real:
            return (
                f"real spending exceeded the budget of {self.model}: {share} "
                f"({settled} of {budget} USD), because {self._cause()}"
            )
        return (
            f"real spending and open reservations exceed the budget of {self.model}: {share} "
            f"({settled} USD spent, {usd(self.open)} USD reserved, budget {budget} USD), because "
            f"{self._cause()}"
        )

    def _cause(self) -> str:
        if self.settled <= self.reserved_for_settled:
            return "the budget was lowered while the period ran"
        dearer = "answers were not free"
        if (ratio := self.cost_ratio) is not None:
            dearer = f"answers cost {ratio:.2f} times what was reserved"
        if self.reserve == BOUND:
            return f"{dearer}: a fleet or an endpoint passed the bound"
        if self.reserve == ESTIMATE:
            return f"{dearer}: reserve=estimate does not limit what an answer costs"
        return dearer

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; amounts are USD."""
        return {
            "period": self.period,
            "name": self.model,
            "real": self.real,
            "share": self.share,
            "cost_ratio": self.cost_ratio,
            "budget": float(to_usd(self.budget)),
            "settled": float(to_usd(self.settled)),
            "open": float(to_usd(self.open)),
            "text": self.text(),
        }


def overspending_of(summary: PeriodSummary) -> list[Overspending]:
    """Return the LLMs of a period whose cost is above the budget, worst first.

    Parameters
    ----------
    summary : PeriodSummary
        Without budgets the list is empty.
    """
    if summary.budgets is None:
        return []
    overspent = []
    for i, model in enumerate(summary.models):
        settled, charged, budget = summary.settled[i], summary.charged[i], summary.budgets[i]
        if charged > budget:
            open_ = charged - settled
            overspent.append(
                Overspending(summary.period, model, budget, settled, summary.reserved[i] - open_, open_)
            )
    return worst_first(overspent)


def worst_first(overspent: Iterable[Overspending]) -> list[Overspending]:
    """Sort by the share of the budget; LLMs without a budget come first."""
    return sorted(overspent, key=lambda one: float("inf") if one.share is None else one.share, reverse=True)


def percent(share: float) -> str:
    """Format a share of a budget in per cent, with a decimal if it is at most about 100."""
    return f"{100 * share:.1f} %" if share < 1.1 else f"{100 * share:.0f} %"


def usd(pico: int) -> str:
    """Format picodollars as USD with six significant digits."""
    return f"{float(to_usd(pico)):.6g}"
