"""Reservations at a quantile of the cost: learned from a history, corrected by outcomes."""

import numpy as np
import pytest

from routing.budgets.budget import Budget
from routing.budgets.cost_quantile import (
    MAX_OFFSET,
    CostQuantile,
    absorb_answers,
    follow,
    offset_of,
    quantile_level,
)
from routing.estimators.base import Estimates
from routing.planning.schedule import PlanningSettings
from routing.simulation import simulate

LEVEL = 0.95


@pytest.mark.parametrize(
    ("reserve", "level"), [("estimate", None), ("bound", None), ("p50", 0.5), ("p99.9", 0.999)]
)
def test_quantile_level(reserve: str, level: float | None) -> None:
    assert quantile_level(reserve) == level


def test_fit_covers_new_costs_of_the_same_kind() -> None:
    random = np.random.default_rng(1)
    estimated = random.uniform(1, 2, (4000, 2))
    actual = estimated * random.lognormal(0, [0.2, 1.0], (4000, 2))

    quantile = CostQuantile.fit(LEVEL, ("calm", "wild"), estimated[:2000], actual[:2000])

    reserved = estimated[2000:] * quantile.factors(("calm", "wild"), {})
    assert (actual[2000:] <= reserved).mean(0) == pytest.approx([LEVEL, LEVEL], abs=0.015)
    assert quantile.ratios["wild"] > 2 * quantile.ratios["calm"]


def test_fit_of_a_short_history_is_its_highest_ratio() -> None:
    quantile = CostQuantile.fit(
        0.99, ("a",), np.array([[1.0], [0.0], [2.0]]), np.array([[3.0], [9.0], [1.0]])
    )

    assert quantile.ratios == {"a": 3.0}


def test_answer_limit_is_twice_the_reservation_up_to_the_dearest_answer() -> None:
    quantile = CostQuantile.fit(LEVEL, ("a",), np.full((3, 1), 0.001), np.array([[0.001], [0.002], [0.003]]))

    limits = [quantile.answer_limit("a", usd, 2.0) for usd in (0.001, 0.002, 0.005)]

    assert limits == [1000, 1500, 2500]
    assert quantile.answer_limit("b", 0.002, 2.0) == 2000, "no history says how long its answers are"
    assert quantile.answer_limit("a", 0.001, None) is quantile.answer_limit("a", 0.0, 2.0) is None


@pytest.mark.parametrize("drift", [0.5, 3.0])
def test_follow_reaches_the_level_after_costs_change(drift: float) -> None:
    random, offset, above = np.random.default_rng(2), 0.0, []
    reserved = float(np.quantile(random.lognormal(0, 0.5, 100_000), LEVEL))
    for cost in drift * random.lognormal(0, 0.5, 4000):
        exceeds = bool(cost > reserved * np.exp(offset))
        above.append(exceeds)
        offset = follow(offset, LEVEL, 1, exceeds)

    assert np.mean(above[1000:]) == pytest.approx(1 - LEVEL, abs=0.01)
    assert offset == pytest.approx(np.log(drift), abs=0.35)


def test_follow_is_limited() -> None:
    offset = 0.0
    for _ in range(1000):
        offset = follow(offset, LEVEL, 50, 50)

    assert offset == MAX_OFFSET
    assert follow(0.3, LEVEL, 0, 0) == 0.3


def test_absorb_answers_counts_each_answer_once() -> None:
    offsets = absorb_answers({}, LEVEL, {"a": (0, 0)})
    once = absorb_answers(offsets, LEVEL, {"a": (4, 2)})

    assert once["a"][1] == pytest.approx(follow(0.0, LEVEL, 4, 2), abs=1e-6)
    assert absorb_answers(once, LEVEL, {"a": (4, 2)}) == once


def test_absorb_answers_of_a_new_topic_or_level_begins_again() -> None:
    offsets = {"a": [LEVEL, 0.4, 100, 9]}

    assert absorb_answers(offsets, LEVEL, {"a": (3, 1)})["a"] == [LEVEL, 0.4, 3, 1]
    other = absorb_answers(offsets, 0.99, {"a": (200, 90)})
    assert other["a"] == [0.99, 0.0, 200, 90]
    assert offset_of(offsets, "a", 0.99) == 0.0


def test_simulation_reserves_the_quantile_and_corrects_it() -> None:
    random = np.random.default_rng(3)
    n, history = 1500, 500
    estimates = Estimates(np.full((n, 1), 0.8), np.full((n, 1), 1e-3))
    quantile = CostQuantile.fit(
        LEVEL, ("a",), np.full((history, 1), 1e-3), 1e-3 * random.lognormal(0, 0.5, (history, 1))
    )
    actual = 2e-3 * random.lognormal(0, 0.5, (n, 1))  # twice as expensive as in the history

    result = simulate(
        estimates,
        (Budget("total", limit=100.0),),
        PlanningSettings(horizon=n, warmup="random"),
        models=("a",),
        true_cost=actual,
        settle_after=0,
        reserve=quantile,
        real_costs=True,
    )

    served = np.flatnonzero(result.choice == 0)
    covered = np.round(actual[served, 0] * 1e12) <= result.reserved[served]
    assert result.reserved[served[0]] == pytest.approx(1e9 * quantile.ratios["a"], rel=1e-9)
    assert covered[: len(covered) // 10].mean() < 0.9
    assert covered[len(covered) // 2 :].mean() == pytest.approx(LEVEL, abs=0.02)
    assert result.spent_usd(1)[0] == pytest.approx(actual[served, 0].sum())
