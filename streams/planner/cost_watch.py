"""The planner's warnings about actual costs above reservations or above a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import structlog

from streams.ledger.overspending import BOUND, overspending_of, percent, usd
from streams.ledger.period_summary import PeriodSummary

log = structlog.get_logger(__name__)

MIN_SETTLED_ANSWERS = 50
"""Settled queries of an LLM before its ratio is judged. A few expensive answers prove nothing."""

COST_RATIO_LIMIT = 1.25
"""Ratio of actual to reserved cost at which a warning is logged."""

REPEAT_FACTOR = 1.25
"""Growth of a reported figure at which its warning is repeated."""

PERIODS_SUMMED = 20
"""Periods over which answers are summed, so that short periods have enough of them."""


class CostWatch:
    """Logs each LLM whose answers cost more than was reserved, and each budget that actual spending exceeds.

    Parameters
    ----------
    reserve : str
        `estimate` or `bound`.
    """

    def __init__(self, reserve: str) -> None:
        self._reserve = reserve
        self._periods: dict[int, PeriodSummary] = {}
        self._warned_ratio: dict[str, float] = {}
        self._warned_share: dict[tuple[int, str], float] = {}

    def record(self, summaries: Iterable[PeriodSummary]) -> None:
        """Record bills that have changed, and log the warnings that they give rise to."""
        for summary in summaries:
            self._periods[summary.period] = summary
            self._warn_of_overspending(summary)
        oldest = max(self._periods, default=0) - PERIODS_SUMMED
        self._periods = {number: one for number, one in self._periods.items() if number > oldest}
        self._warned_share = {key: share for key, share in self._warned_share.items() if key[0] > oldest}
        self._warn_of_ratios()

    def _warn_of_overspending(self, summary: PeriodSummary) -> None:
        for one in overspending_of(summary):
            key, share = (one.period, one.model), float("inf") if one.share is None else one.share
            if not one.real or share < REPEAT_FACTOR * self._warned_share.get(key, 0.0):
                continue
            if key in self._warned_share and one.share is None:
                continue
            self._warned_share[key] = share
            log.warning(
                "budget_overspent",
                llm=one.model,
                period=one.period,
                spent_usd=usd(one.settled),
                budget_usd=usd(one.budget),
                used=None if one.share is None else percent(one.share),
                reserve=self._reserve,
                advice=self._advice(),
            )

    def _warn_of_ratios(self) -> None:
        settled, reserved, answers = Counter[str](), Counter[str](), Counter[str]()
        for summary in self._periods.values():
            for i, model in enumerate(summary.models):
                settled[model] += summary.settled[i]
                reserved[model] += summary.reserved[i] - (summary.charged[i] - summary.settled[i])
                answers[model] += summary.settlements[i]
        for model, count in answers.items():
            if count < MIN_SETTLED_ANSWERS or reserved[model] <= 0:
                continue
            ratio = settled[model] / reserved[model]
            if ratio < COST_RATIO_LIMIT:
                self._warned_ratio.pop(model, None)
            elif ratio >= REPEAT_FACTOR * self._warned_ratio.get(model, 0.0):
                self._warned_ratio[model] = ratio
                log.warning(
                    "costs_above_reservations",
                    llm=model,
                    ratio=round(ratio, 3),
                    answers=count,
                    spent_usd=usd(settled[model]),
                    reserved_usd=usd(reserved[model]),
                    reserve=self._reserve,
                    advice=self._advice(),
                )

    def _advice(self) -> str:
        if self._reserve == BOUND:
            return "check the fleet's max_tokens, the endpoint's usage and the catalogue's list prices"
        return "set PORT_RESERVE=bound, fit the history on newer answers, or lower the budgets"
