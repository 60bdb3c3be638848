"""Simulations with budgets of all kinds: no counter is overspent, and lanes agree with one partition."""

import numpy as np
import pytest

from routing.budgets.budget import Budget
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.simulation import Simulation, simulate

MODELS = ("cheap", "middle", "best")
TEAMS = ("a", "b", "c", "late")
SHARED = (Budget("total", limit=0.05),)
TEAM = Budget("team", group_by="metadata.team", limits={"a": 0.02, "b": 0.01, "c": 0.001}, default=0.002)
EVERY_KIND = (
    *SHARED,
    Budget("best", limit=0.02, models=("best",)),
    Budget("answers", "queries", limit=150, models=("middle",)),
    Budget("tokens", "tokens", limit=60_000),
    TEAM,
)


def stream(n: int, seed: int = 0) -> tuple[Estimates, Estimates, QueryTerms]:
    random = np.random.default_rng(seed)
    shape = (n + 200, len(MODELS))
    cost = np.exp(random.normal(0, 0.4, shape)) * np.array([2e-5, 1e-4, 5e-4])
    quality = np.clip(random.normal([0.4, 0.55, 0.7], 0.25, shape), 0, 1)
    estimates = Estimates(quality, cost)
    terms = QueryTerms(
        weight=random.choice([1.0, 3.0], n),
        eligible=random.random((n, len(MODELS))) < 0.9,
        tokens=random.integers(10, 300, (n, len(MODELS))),
        values={"metadata.team": [TEAMS[i] for i in random.integers(0, len(TEAMS), n)]},
    )
    return estimates.rows(slice(n)), estimates.rows(slice(n, None)), terms


def drawn_by_counter(result: Simulation) -> dict:
    """Sum the charges of all lanes by counter."""
    total: dict = {}
    for account in result.accounts:
        for key, amount in zip(account.keys, account.charged.tolist(), strict=True):
            total[key] = total.get(key, 0) + amount
    return total


def run(n: int, budgets: tuple[Budget, ...], **options) -> Simulation:
    estimates, history, terms = stream(n)
    form = {"warmup": "history", "resolve": "every", "resolve_every": 100, "solver": "newton"}
    settings = PlanningSettings(horizon=n, **form)
    return simulate(estimates, budgets, settings, models=MODELS, history=history, terms=terms, **options)


@pytest.mark.parametrize("lanes", [1, 4])
def test_no_counter_is_overspent(lanes: int):
    n = 1200
    where = np.random.default_rng(1).integers(0, lanes, n)

    result = run(n, EVERY_KIND, lanes=where, overflow_after=20)

    limits = {
        key: one.limit_of(key[1])
        for one in EVERY_KIND
        for key in drawn_by_counter(result)
        if key[0] == one.name
    }
    assert all(amount <= limits[key] for key, amount in drawn_by_counter(result).items())
    assert drawn_by_counter(result)["team", "late"] > 0
    assert (result.choice >= 0).sum() > n // 4
    _, _, terms = stream(n)
    assert all(terms.eligible[j, i] for j, i in enumerate(result.choice) if i >= 0)


def test_batches_equal_one_query_at_a_time():
    in_batches = run(600, EVERY_KIND)
    one_by_one = run(600, EVERY_KIND, settle_after=10**9)

    assert in_batches.choice.tolist() == one_by_one.choice.tolist()


def test_shared_total_is_spent_and_beats_its_split():
    estimates, _, _ = stream(1000)
    shared = run(1000, SHARED, true_cost=estimates.cost, settle_after=0)
    split = run(1000, tuple(Budget(name, limit=0.05 / 3, models=(name,)) for name in MODELS))

    assert 0.97 * 0.05 < shared.spent_usd(3).sum() <= 0.05
    served = shared.choice >= 0, split.choice >= 0
    quality = [estimates.quality[s, r.choice[s]].sum() for s, r in zip(served, (shared, split), strict=True)]
    assert quality[0] > quality[1]


def test_groups_on_their_own_lane_hardly_overflow():
    n, groups, lanes = 4000, 100, 16
    random = np.random.default_rng(5)
    group = random.integers(0, groups, n)
    estimates, history, _ = stream(n)
    team = Budget("team", group_by="metadata.team", limits={f"g{g}": 3e-3 for g in range(groups)})
    terms = QueryTerms(values={"metadata.team": [f"g{g}" for g in group]})
    form = {"warmup": "history", "resolve": "every", "solver": "newton"}

    result = simulate(
        estimates,
        (team,),
        PlanningSettings(horizon=n, **form),
        models=MODELS,
        history=history,
        terms=terms,
        lanes=random.integers(0, lanes, groups)[group],
        tick=50,
    )

    # Only the first queries of each group overflow: until the planner knows the group's lane.
    assert result.overflowed <= 0.05 * n
    assert (result.choice >= 0).sum() > 0.9 * n


def test_rate_lets_its_burst_through_then_its_pace():
    n = 600
    rate = Budget("rate", "queries", limit=60, per="minute", burst=10, models=("best",))
    quality = np.tile([0.3, 0.4, 0.9], (n, 1))
    # With equal queries the price would be the whole gain of each, and none would be worth it.
    quality[:, 2] += np.random.default_rng(1).uniform(-0.1, 0.1, n)
    estimates = Estimates(quality, np.full((n, 3), 1e-5))
    settings = PlanningSettings(horizon=n, warmup="history", resolve="every", solver="newton")

    result = simulate(
        estimates,
        (*SHARED, rate),
        settings,
        models=MODELS,
        history=estimates,
        arrivals=np.arange(n) / 10.0,
        tick=5,
    )

    best = np.flatnonzero(result.choice == 2) / 10.0
    assert 55 <= len(best) <= 70
    for start in range(0, 60, 5):
        assert ((best >= start) & (best < start + 5)).sum() <= 10 + 5 + 1
    assert isinstance(result.accounts[0], Account)
