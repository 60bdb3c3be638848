"""Prices per counter: Newton's method reaches the objective of HiGHS on all kinds of budgets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.planning.lp_prices import solve_lp
from routing.planning.program import RoutingProgram, solve_program
from routing.planning.program_newton import newton_program_prices

MODELS = ("a", "b", "c", "d")
TEAMS = ("search", "ads", "", "other", "unlisted")
BUDGETS = (
    Budget("total", limit=1.0),
    Budget("ab", limit=1.0, models=("a", "b")),
    Budget("d", limit=1.0, models=("d",)),
    Budget("rate", "queries", limit=1, models=("!c",), per="minute"),
    Budget("tokens", "tokens", limit=1, models=("b", "c")),
    Budget("team", group_by="metadata.team", limits={"search": 1.0, "ads": 1.0}),
    Budget("region", "queries", group_by="header:region", limits={"eu": 1, "us": 1}),
)


def random_program(
    n: int, seed: int, budgets: tuple[Budget, ...] = (), scarcity: float = 0.3
) -> RoutingProgram:
    random = np.random.default_rng(seed)
    shape = (n, len(MODELS))
    cost = np.exp(random.normal(0, 0.5, shape)) * np.array([1e-5, 1e-4, 3e-4, 1e-2])
    quality = np.clip(random.normal([0.4, 0.5, 0.6, 0.7], 0.25), 0, 1) * np.ones((n, 1))
    quality = np.clip(quality + random.normal(0, 0.2, shape), 0, 1)
    chosen = budgets or tuple(b for b in BUDGETS if random.random() < 0.6) or BUDGETS[:1]
    counters = Counters.of(chosen, MODELS)
    terms = QueryTerms(
        random.uniform(0, 2, n),
        random.random(shape) < 0.9,
        random.integers(1, 900, shape),
        {
            "metadata.team": [TEAMS[i] for i in random.integers(0, len(TEAMS), n)],
            "header:region": [("eu", "us")[i] for i in random.integers(0, 2, n)],
        },
    )
    mass = random.uniform(0.1, 3, n)
    unlimited = RoutingProgram.of(
        counters, Estimates(quality, cost), terms, np.full(len(counters), np.inf), mass
    )
    limits = np.zeros(len(counters))
    for b in range(len(chosen)):
        column = unlimited.columns[:, b]
        known = column >= 0
        np.add.at(limits, column[known], (unlimited.draw(b).mean(1) * mass)[known])
    limits *= random.uniform(0, 2 * scarcity, len(counters)) * (random.random(len(counters)) < 0.9)
    return RoutingProgram.of(counters, Estimates(quality, cost), terms, limits, mass)


@pytest.mark.parametrize(("n", "seed", "scarcity"), [(106, 21484, 0.3), (101, 24, 0.05), (300, 63, 0.05)])
def test_newton_that_loses_its_curvature_is_replaced_by_the_program(n: int, seed: int, scarcity: float):
    program = random_program(n, seed, scarcity=scarcity)

    value = program.dual(newton_program_prices(program))

    assert value == pytest.approx(solve_program(program).objective, rel=1e-4)


@given(st.integers(1, 120), st.integers(0, 2**32), st.sampled_from([0.05, 0.3, 2.0]))
@settings(max_examples=60, deadline=None)
def test_newton_reaches_the_objective_of_highs(n: int, seed: int, scarcity: float):
    program = random_program(n, seed, scarcity=scarcity)
    exact = solve_program(program)

    prices = newton_program_prices(program)

    assert (prices >= 0).all()
    assert program.dual(exact.prices) == pytest.approx(exact.objective, rel=1e-6, abs=1e-9)
    assert program.dual(prices) >= exact.objective * (1 - 1e-9) - 1e-9
    assert program.dual(prices) <= exact.objective * (1 + 1e-4) + 1e-7


@pytest.mark.parametrize("seed", range(4))
def test_newton_reaches_the_objective_of_highs_on_many_queries(seed: int):
    budgets = BUDGETS[:6] if seed % 2 else BUDGETS
    program = random_program(1500, seed, budgets)
    exact = solve_program(program)

    cold = newton_program_prices(program)
    warm = newton_program_prices(program, start=cold * 1.3)

    for prices in (cold, warm):
        assert program.dual(prices) == pytest.approx(exact.objective, rel=1e-4)


def test_one_budget_per_llm_is_the_program_of_the_paper():
    random = np.random.default_rng(3)
    estimates = Estimates(random.random((80, 4)), random.uniform(1e-4, 1e-3, (80, 4)))
    budgets = np.array([5e-3, 1e-3, 0.0, 2e-3])

    program = RoutingProgram.of(Counters.per_llm(MODELS), estimates, QueryTerms(), budgets)

    assert solve_program(program).objective == pytest.approx(
        solve_lp(estimates.quality, estimates.cost, budgets).objective, rel=1e-9
    )


def test_counters_without_limit_or_queries_cost_nothing():
    program = random_program(30, 1, BUDGETS[5:6])
    generous = RoutingProgram.of(
        program.counters,
        Estimates(program.quality, program.cost),
        QueryTerms(values={"metadata.team": ["search"] * 30}),
        np.where(np.arange(len(program.counters)) == 0, 1e9, 1.0),
    )

    assert newton_program_prices(generous).tolist() == [0.0] * len(program.counters)
    assert solve_program(generous).prices.tolist() == [0.0] * len(program.counters)


def test_invalid_limits_raise():
    program = random_program(5, 1)
    estimates = Estimates(program.quality, program.cost)
    with pytest.raises(ValueError, match="limits"):
        RoutingProgram.of(program.counters, estimates, QueryTerms(), np.full(len(program.counters), -1.0))
    with pytest.raises(ValueError, match="limits"):
        RoutingProgram.of(program.counters, estimates, QueryTerms(), np.zeros(99))
