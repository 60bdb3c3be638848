"""Simulation: the paper's accounting, batches, settlement, and budgets over partitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.accounting import account_for
from routing.budgets.money import to_pico
from routing.estimators.base import Estimates
from routing.planning.schedule import PlanningSettings
from routing.policy.decision import UNSERVED
from routing.simulation import simulate

N, M = 400, 4


def world(seed: int = 0, n: int = N) -> tuple[Estimates, Estimates, Estimates, np.ndarray]:
    """Make estimates, true values, a history, and budgets for about half of the queries."""
    random = np.random.default_rng(seed)
    level = np.linspace(0.3, 0.8, M)
    price = np.logspace(-5, -3.5, M)

    def draw(rows: int) -> Estimates:
        quality = np.clip(level + random.normal(0, 0.2, (rows, M)), 0, 1)
        return Estimates(quality, price * random.uniform(0.5, 1.5, (rows, M)))

    true = draw(n)
    noise = random.normal(0, 0.05, (n, M))
    estimates = Estimates(np.clip(true.quality + noise, 0, 1), true.cost * random.uniform(0.8, 1.25, (n, M)))
    return estimates, true, draw(200), true.cost.sum(0) * 0.15


def planning(**options) -> PlanningSettings:
    plain = {"horizon": N, "eps": 0.05, "resolve_every": 50, "resolve_late": 20, "solver": "newton"}
    return PlanningSettings(**(plain | options))


FORMS = [
    {"warmup": "buffer", "resolve": "once"},
    {"warmup": "buffer", "resolve": "geometric"},
    {"warmup": "random", "resolve": "geometric"},
    {"warmup": "history", "resolve": "once"},
    {"warmup": "history", "resolve": "every"},
    {"warmup": "buffer", "resolve": "every"},
]

# --- accounting ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-1, 2), st.floats(0, 1), st.floats(0.01, 1)), max_size=40))
def test_account_for_counts_queries_within_the_budget(rows):
    choice = np.array([row[0] for row in rows], dtype=np.int64)
    quality = np.array([[row[1]] * 3 for row in rows]).reshape(-1, 3)
    cost = np.array([[row[2]] * 3 for row in rows]).reshape(-1, 3)
    budgets = np.array([0.0, 1.0, 3.0])
    outcome = account_for(choice, quality, cost, budgets)
    spent, performance, served = [0.0, 0.0, 0.0], 0.0, 0
    for i, worth, price in rows:
        if i >= 0 and spent[i] + price <= budgets[i] * (1 + 1e-12):
            spent[i] += price
            performance, served = performance + worth, served + 1
    assert outcome.performance == pytest.approx(performance)
    assert outcome.spent == pytest.approx(np.array(spent))
    assert outcome.cost == pytest.approx(sum(spent))
    assert outcome.throughput == served == outcome.counted.sum()
    assert (outcome.spent <= budgets * (1 + 1e-9)).all()


# --- one partition ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_simulate_in_batches_equals_one_by_one(form):
    estimates, true, history, budgets = world()
    batched = simulate(estimates, budgets, planning(**form), history=history, seed=3)
    # Outcomes that never arrive make it decide one by one.
    single = simulate(
        estimates, budgets, planning(**form), history=history, seed=3, true_cost=true.cost, settle_after=10**9
    )
    assert batched.choice.tolist() == single.choice.tolist()
    assert [plan.version for plan in batched.plans] == [plan.version for plan in single.plans]
    for one, other in zip(batched.plans, single.plans, strict=True):
        assert np.array_equal(one.prices, other.prices)
    assert batched.accounts[0].charged.tolist() == single.accounts[0].charged.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_simulate_exceeds_no_budget(form):
    estimates, _, history, budgets = world(1)
    result = simulate(estimates, budgets, planning(**form), history=history)
    assert (result.spent_usd(len(budgets)) <= budgets + 1e-9).all()
    assert result.accounts[0].arrived == N
    assert (result.choice >= 0).sum() == result.accounts[0].served.sum() > N / 4
    assert result.accounts[0].unserved == (result.choice == UNSERVED).sum()


def test_simulate_settlement_of_cheap_answers_serves_more():
    estimates, true, history, budgets = world()
    dear = Estimates(estimates.quality, 2 * true.cost)
    served = [
        (
            simulate(
                dear, budgets, planning(**FORMS[4]), history=history, true_cost=true.cost, settle_after=after
            ).choice
            >= 0
        ).sum()
        for after in (None, 100, 0)
    ]
    assert served[0] < served[1] <= served[2]


def test_simulate_answers_beyond_the_budget_settle_at_zero():
    """By the accounting rule such an answer is lost at no cost, so the ledger equals the evaluation."""
    estimates, true, history, budgets = world()
    cheap = Estimates(estimates.quality, 0.5 * true.cost)
    result = simulate(
        cheap, budgets, planning(**FORMS[4]), history=history, true_cost=true.cost, settle_after=0
    )
    outcome = account_for(result.choice, true.quality, true.cost, budgets)
    assert result.spent_usd(len(budgets)) == pytest.approx(outcome.spent, abs=1e-9)
    assert (outcome.spent <= budgets + 1e-9).all()


@pytest.mark.parametrize("n", [1, 19, 20, 21])
@pytest.mark.parametrize("form", FORMS)
def test_simulate_streams_shorter_than_the_warmup(form, n):
    estimates, true, history, budgets = world()
    few = estimates.rows(slice(0, n))
    for settled in ({}, {"true_cost": true.cost[:n], "settle_after": 0}):
        result = simulate(few, budgets, planning(**form), history=history, **settled)
        assert len(result.choice) == n
        assert result.accounts[0].arrived == n


def test_simulate_charges_above_estimates():
    estimates, _, history, budgets = world()
    bound = to_pico(3 * estimates.cost)
    result = simulate(estimates, budgets, planning(**FORMS[4]), history=history, charge=bound)
    rows = np.flatnonzero(result.choice >= 0)
    assert result.accounts[0].charged.sum() == bound[rows, result.choice[rows]].sum()


# --- several partitions -------------------------------------------------------------------------------------


@given(
    st.integers(2, 6), st.integers(0, 1000), st.sampled_from(FORMS), st.integers(1, 60), st.integers(1, 40)
)
@settings(max_examples=12)
def test_simulate_partitions_share_a_budget_and_decide_every_query(partitions, seed, form, tick, lag):
    estimates, true, history, budgets = world(seed, 200)
    lanes = np.random.default_rng(seed).integers(partitions, size=200)
    lanes[0] = partitions - 1
    result = simulate(
        estimates,
        budgets,
        planning(**{**form, "horizon": 200}),
        history=history,
        lanes=lanes,
        tick=tick,
        overflow_after=lag,
        true_cost=true.cost,
        settle_after=5,
    )
    *parts, pool = result.accounts
    assert sum(account.arrived for account in parts) == 200
    assert sum(account.deferred for account in parts) == pool.arrived == result.overflowed
    assert pool.deferred == 0
    assert (result.choice >= -1).all(), "every deferred query was decided"
    served = sum(account.served for account in result.accounts)
    assert served.tolist() == np.bincount(result.choice[result.choice >= 0], minlength=M).tolist()


@pytest.mark.parametrize("form", FORMS)
def test_simulate_partitions_without_settlement_stay_within_budget(form):
    estimates, _, history, budgets = world(5)
    lanes = np.random.default_rng(5).integers(4, size=N)
    result = simulate(estimates, budgets, planning(**form), history=history, lanes=lanes, tick=20)
    assert (sum(account.charged for account in result.accounts) <= to_pico(budgets)).all()


@pytest.mark.parametrize("partitions", [4, 16])
@pytest.mark.parametrize("tick", [20, 200])
def test_simulate_partitions_lose_little_quality(partitions, tick):
    """This holds with two grant rounds in the whole period, and when the traffic is reversed."""
    losses = []
    for seed in range(3):
        estimates, true, history, budgets = world(seed)
        random = np.random.default_rng(seed)
        weights = np.linspace(10, 1, partitions)
        lanes = random.choice(partitions, N, p=weights / weights.sum())
        lanes[N // 2 :] = partitions - 1 - lanes[N // 2 :]

        def performance(estimates=estimates, true=true, history=history, budgets=budgets, **shared):
            result = simulate(
                estimates,
                budgets,
                planning(**FORMS[4]),
                history=history,
                true_cost=true.cost,
                settle_after=0,
                **shared,
            )
            return account_for(result.choice, true.quality, true.cost, budgets).performance

        losses.append(1 - performance(lanes=lanes, tick=tick, overflow_after=10) / performance())
    assert np.mean(losses) < (0.02 if tick == 20 else 0.05)
