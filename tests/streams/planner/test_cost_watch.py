"""Warnings about costs above reservations and about overspent budgets."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.ledger.period_summary import PeriodSummary
from streams.planner.cost_watch import (
    COST_RATIO_LIMIT,
    MIN_SETTLED_ANSWERS,
    PERIODS_SUMMED,
    REPEAT_FACTOR,
    CostWatch,
)
from tests.streams.sample_cluster import USD


def bill(
    settled: int, *, reserved: int = 10 * USD, answers: int = MIN_SETTLED_ANSWERS, period: int = 1
) -> PeriodSummary:
    """Return a bill on which all queries are settled; the budget is 100 USD."""
    return PeriodSummary(
        period=period,
        closed=False,
        settling=True,
        models=("m",),
        budgets=[100 * USD],
        reserved=[reserved],
        settled=[settled],
        charged=[settled],
        served=[answers],
        settlements=[answers],
        lapsed=[0],
        arrived=answers,
        unserved=0,
        deferred=0,
        dead=0,
    )


def warned(watch: CostWatch, *bills: PeriodSummary) -> list[Any]:
    with capture_logs() as entries:
        for one in bills:
            watch.record([one])
    return [(entry["event"], entry["llm"]) for entry in entries]


def test_cost_watch_with_expensive_answers_warns_once_with_advice():
    watch = CostWatch("estimate")
    with capture_logs() as entries:
        watch.record([bill(15 * USD)])
        watch.record([bill(15 * USD + 1)])
    (entry,) = entries
    assert (entry["event"], entry["llm"], entry["ratio"], entry["answers"]) == (
        "costs_above_reservations",
        "m",
        1.5,
        MIN_SETTLED_ANSWERS,
    )
    assert entry["log_level"] == "warning"
    for remedy in ("PORT_RESERVE=bound", "newer answers", "budgets"):
        assert remedy in entry["advice"]


@pytest.mark.parametrize(
    "one", [bill(15 * USD, answers=MIN_SETTLED_ANSWERS - 1), bill(int((COST_RATIO_LIMIT - 0.01) * 10 * USD))]
)
def test_cost_watch_with_few_answers_or_small_ratio_does_not_warn(one: PeriodSummary):
    assert warned(CostWatch("estimate"), one) == []


def test_cost_watch_with_growing_ratio_warns_again():
    watch = CostWatch("estimate")
    event = ("costs_above_reservations", "m")
    assert warned(watch, bill(15 * USD)) == [event]
    assert warned(watch, bill(int(15 * REPEAT_FACTOR * USD))) == [event]
    assert warned(watch, bill(10 * USD), bill(15 * USD)) == [event]


def test_cost_watch_sums_short_periods_and_drops_old_ones():
    watch = CostWatch("estimate")
    parts = [bill(3 * USD, reserved=USD, answers=MIN_SETTLED_ANSWERS // 2, period=n) for n in (1, 2)]
    assert warned(watch, parts[0]) == []
    assert warned(watch, parts[1]) == [("costs_above_reservations", "m")]
    few = bill(3 * USD, reserved=USD, answers=MIN_SETTLED_ANSWERS // 2, period=3 + PERIODS_SUMMED)
    assert warned(CostWatch("estimate"), parts[0], few) == []


def test_cost_watch_with_overspent_budget_warns_with_per_cent():
    watch = CostWatch("estimate")
    over = bill(232 * USD, reserved=230 * USD)
    with capture_logs() as entries:
        watch.record([over])
        watch.record([over])
    (entry,) = entries
    assert (entry["event"], entry["used"], entry["budget_usd"]) == ("budget_overspent", "232 %", "100")


def test_cost_watch_with_only_reservations_above_budget_does_not_warn():
    open_ = replace(bill(90 * USD, reserved=101 * USD), charged=[101 * USD])
    assert warned(CostWatch("estimate"), open_) == []


def test_cost_watch_with_zero_budget_warns_once():
    free = replace(bill(USD, reserved=USD), budgets=[0])
    more = replace(free, settled=[2 * USD], charged=[2 * USD], reserved=[2 * USD])
    assert warned(CostWatch("estimate"), free, more) == [("budget_overspent", "m")]


def test_cost_watch_with_bounds_gives_other_advice():
    with capture_logs() as entries:
        CostWatch("bound").record([bill(15 * USD)])
    assert "PORT_RESERVE" not in entries[0]["advice"]
