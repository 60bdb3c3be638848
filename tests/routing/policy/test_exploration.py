"""Exploration: frequencies of choices equal the probabilities that are written, and budgets bound it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.decision import DEFERRED, random_keys
from routing.policy.exploration import Exploration, affordable_shares, equal_shares
from routing.policy.plan import Plan
from routing.policy.policy import route
from routing.simulation import simulate

QUALITY = np.array([[0.9, 0.6, 0.5]])
COST = np.array([[3e-12, 1e-12, 50e-12]])
TRIES = 200
EVENLY = (np.arange(TRIES, dtype=np.uint64) * np.uint64(2**64 // TRIES)).astype(np.uint64)
"""Keys that draw each LLM as often as its probability says."""


def plan_of(grant: list[int], **changes: Any) -> Plan:
    rows = np.array([grant, grant], dtype=np.int64)
    fields: dict[str, Any] = {
        "period": 1,
        "version": 1,
        "revision": 1,
        "models": ("a", "b", "c"),
        "active": np.ones(3, bool),
        "budgets": rows.sum(0),
        "prices": np.zeros(3),
        "learned": True,
        "granted": rows,
        "target": rows,
        "overflow": True,
        "horizon": 100,
    }
    return Plan(**(fields | changes))


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize(
    ("granted", "learned"), [([9, 9, 99], True), ([9, 9, 9], True), ([2, 9, 99], True), ([9, 9, 9], False)]
)
def test_choices_are_as_frequent_as_their_probabilities(lane: int, granted: list[int], learned: bool):
    plan = plan_of(granted, learned=learned)
    share = equal_shares(1, 3, np.array([0, 1, 2]), 0.3)
    counts: dict[int, int] = {}
    written: dict[int, float] = {}
    for offset in range(TRIES):
        place = np.array([offset])
        explore = Exploration.draw(EVENLY[offset : offset + 1], share)
        estimates = Estimates(QUALITY, COST)
        routed = route(Account.fresh(1, 3), plan, lane, estimates, place, seed=5, explore=explore)
        choice = int(routed.choice[0])
        assert routed.probability is not None
        counts[choice] = counts.get(choice, 0) + 1
        assert written.setdefault(choice, float(routed.probability[0])) == float(routed.probability[0])
    if learned or lane == 1:  # random warm-up defers only what it cannot pay
        assert sum(written.values()) == pytest.approx(1)
    for choice, count in counts.items():
        assert count / TRIES == pytest.approx(written[choice], abs=0.011 if learned else 0.1), (
            choice,
            counts,
            written,
        )


@pytest.mark.parametrize(("pool", "other"), [(0, 1), (9, DEFERRED)])
def test_probability_counts_what_the_pool_may_pay(pool: int, other: int):
    """The best LLM cannot pay: the next best follows, unless the query waits for the pool."""
    budgets = tuple(Budget(name, limit=1.0, models=(name, "zz")) for name in ("a", "b", "c"))
    plan = plan_of([2, 9, 99], counters=Counters.of(budgets, ("a", "b", "c")), open=np.ones(3, bool))
    target = np.array([[2, 9, 99], [pool, 9, 99]])
    plan = plan.changed(target=target)
    share = equal_shares(1, 3, np.array([0, 1, 2]), 0.3)
    by_choice: dict[int, list[float]] = {}
    for key in EVENLY:
        explore = Exploration.draw(np.array([key]), share)
        account = Account.fresh(1, 3, plan.counters)
        routed = route(account, plan, 0, Estimates(QUALITY, COST), np.array([0]), explore=explore)
        assert routed.probability is not None
        by_choice.setdefault(int(routed.choice[0]), []).append(float(routed.probability[0]))
    assert max(by_choice, key=lambda choice: len(by_choice[choice])) == other
    assert (DEFERRED in by_choice) == (other == DEFERRED)
    for probabilities in by_choice.values():
        assert len(set(probabilities)) == 1
        assert len(probabilities) / TRIES == pytest.approx(probabilities[0], abs=0.011)


def test_probability_in_a_batch_is_that_of_one_query_at_a_time():
    plan, n = plan_of([30, 20, 300]), 40
    offsets, keys = np.arange(n), random_keys(1, 1, np.arange(n))
    share = equal_shares(n, 3, np.array([0, 1, 2]), 0.4)
    estimates = Estimates(np.repeat(QUALITY, n, 0), np.repeat(COST, n, 0))
    explore = Exploration.draw(keys, share)
    decisions = route(Account.fresh(1, 3), plan, 1, estimates, offsets, explore=explore)
    account, single = Account.fresh(1, 3), []
    for row in range(n):
        one = Exploration.draw(keys[row : row + 1], share[:1])
        part = estimates.rows(slice(row, row + 1))
        routed = route(account, plan, 1, part, offsets[row : row + 1], explore=one)
        account = routed.account
        single.append(float(routed.probability[0]))
    assert decisions.probability is not None
    assert len(set(single)) > 2
    assert decisions.probability.tolist() == single
    assert (decisions.choice == -1).any(), "budgets run out within the batch"


def test_no_exploration_has_no_probability():
    routed = route(Account.fresh(1, 3), plan_of([9, 9, 9]), 0, Estimates(QUALITY, COST), np.array([0]))
    assert routed.probability is None


def test_affordable_shares_bound_the_expected_draw_of_each_counter():
    budgets = (
        Budget("total", limit=1e-9),
        Budget("team", group_by="team", limits={"x": 1e-10}, default=0.0),
        Budget("rate", limit=1e-12, per="minute"),
    )
    counters, _ = Counters.of(budgets, ("a", "b", "c")).resolved({"team": ["x"]}, 1)
    amounts = {("total", None): 1000, ("team", "x"): 100}
    limits = np.array([amounts.get(key, 1) for key in counters.keys], dtype=np.int64)
    some = np.zeros((1, len(counters)), dtype=np.int64)
    plan = plan_of(
        [0, 0, 0],
        counters=counters,
        budgets=limits,
        prices=np.zeros(len(counters)),
        granted=some,
        target=some,
        open=np.ones(len(counters), bool),
        overflow=False,
    )
    charge = np.array([[1, 10, 1000]])
    shares = affordable_shares(plan, 0, charge, QueryTerms(values={"team": ["x"]}), 0.3, 0.5)
    # the team has 1 picodollar for a query, half of which is for exploration, a third of that for each LLM
    assert shares[0].tolist() == pytest.approx([0.1, 0.5 / 3 / 10, 0.5 / 3 / 1000])


def test_simulated_exploration_spends_its_share_of_each_budget():
    rng = np.random.default_rng(0)
    n = 2000
    quality = np.column_stack([rng.uniform(0.6, 0.9, n), rng.uniform(0.4, 0.7, n), np.zeros(n)])
    estimates = Estimates(quality, np.tile([1e-4, 2e-4, 1e-2], (n, 1)))
    settings = PlanningSettings(horizon=n, warmup="buffer", eps=0.05)
    budgets = np.array([0.15, 0.15, 1.0])

    def spent(**options: float) -> np.ndarray:
        return simulate(estimates, budgets, settings, **options).spent_usd(3)

    assert spent()[2] == 0, "the third LLM is never worth its cost"
    assert spent(exploration=0.06)[2] > 0.3
    assert spent(exploration=0.06, exploration_budget=0.1)[2] == pytest.approx(0.1, rel=0.5)
