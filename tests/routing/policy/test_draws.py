"""Routing by counters of several budgets equals deciding one query at a time, and overspends none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.budgets.money import to_pico
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.account import Account, changed_columns
from routing.policy.decision import (
    BUDGET_EXHAUSTED,
    DEFERRED,
    NO_ELIGIBLE_LLM,
    NOT_WORTH_IT,
    SERVED,
    TOLERANCE,
    UNSERVED,
)
from routing.policy.plan import Plan
from routing.policy.policy import route

MODELS = ("a", "b", "c")
TEAMS = ("search", "ads", "", "new", "newer")
BUDGETS = (
    Budget("total", limit=5e-3),
    Budget("ab", limit=3e-3, models=("a", "b")),
    Budget("c", limit=1e-3, models=("c",)),
    Budget("rate", "queries", limit=12, models=("!c",), per="minute"),
    Budget("tokens", "tokens", limit=900, models=("b",)),
    Budget("team", group_by="metadata.team", limits={"search": 2e-3}, default=5e-4, max_values=5),
    Budget("region", "queries", group_by="header:region", limit=20),
)


def a_plan(budgets: tuple[Budget, ...], prices: np.ndarray | None = None, **fields) -> Plan:
    counters = Counters.of(budgets, MODELS)
    limits = counters.limits()
    plain = {
        "period": 1,
        "version": 1,
        "revision": 1,
        "models": MODELS,
        "active": np.ones(len(MODELS), dtype=bool),
        "budgets": limits,
        "prices": np.zeros(len(counters)) if prices is None else prices,
        "learned": True,
        "granted": limits[None],
        "target": limits[None],
        "overflow": False,
        "horizon": 100,
        "counters": counters,
        "open": np.ones(len(counters), dtype=bool),
    }
    return Plan(**(plain | fields))


def random_case(n: int, seed: int) -> tuple[Estimates, QueryTerms, np.random.Generator]:
    random = np.random.default_rng(seed)
    shape = (n, len(MODELS))
    estimates = Estimates(random.random(shape).round(1), random.uniform(1e-4, 1e-3, shape).round(4))
    terms = QueryTerms(
        random.uniform(0, 3, n).round(1),
        random.random(shape) < 0.8,
        random.integers(1, 99, shape),
        {
            "metadata.team": [TEAMS[i] for i in random.integers(0, len(TEAMS), n)],
            "header:region": ["eu" if one else "us" for one in random.random(n) < 0.5],
        },
    )
    return estimates, terms, random


def one_at_a_time(plan: Plan, estimates: Estimates, terms: QueryTerms) -> list[int]:
    """The rule of the design, written as plainly as possible."""
    counters, left = plan.counters, dict(zip(plan.counters.keys, plan.granted[0].tolist(), strict=True))
    price, choices = dict(zip(counters.keys, plan.prices.tolist(), strict=True)), []
    charge = to_pico(estimates.cost)
    for j in range(len(estimates)):
        drawn: list[dict] = []
        for i in range(len(MODELS)):
            drawn.append({})
            for b, budget in enumerate(counters.budgets):
                value = terms.values[budget.group_by][j] if budget.group_by else None
                key = (budget.name, value)
                if key not in left:
                    if sum(name == budget.name for name, _ in left) >= budget.max_values:
                        key = (budget.name, "other")
                    else:
                        left[key] = budget.limit_of(value)
                        price[key] = plan.price_of_new(budget.name)
                if counters.covers[b, i]:
                    usd, tokens = int(charge[j, i]), int(terms.tokens[j, i])
                    drawn[i][key] = {"usd": usd, "queries": 1, "tokens": tokens}[budget.unit]
        scores = np.full(len(MODELS), -np.inf)
        for i, draws in enumerate(drawn):
            if terms.eligible[j, i] and all(left[key] >= amount for key, amount in draws.items()):
                scores[i] = terms.weight[j] * estimates.quality[j, i] - sum(
                    price[key] * (estimates.cost[j, i] if key[0] in ("total", "ab", "c", "team") else amount)
                    for key, amount in draws.items()
                )
        best = scores.max()
        choice = UNSERVED if best <= TOLERANCE else int((scores >= best - TOLERANCE).argmax())
        choices.append(choice)
        for key, amount in drawn[choice].items() if choice >= 0 else ():
            left[key] -= amount
    return choices


def prices_for(counters: Counters, random: np.random.Generator) -> np.ndarray:
    scale = {"usd": 300.0, "queries": 0.1, "tokens": 0.003}
    units = [scale[counters.budgets[b].unit] for b in counters.budget_of]
    return random.uniform(0, 1, len(units)) * units


@given(st.integers(1, 60), st.integers(0, 2**32), st.integers(1, 7), st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=120, deadline=None)
def test_batches_equal_one_query_at_a_time(n: int, seed: int, kinds: int, cuts: list[int]):
    estimates, terms, random = random_case(n, seed)
    chosen = tuple(BUDGETS[b] for b in sorted(random.permutation(len(BUDGETS))[:kinds]))
    plan = a_plan(chosen)
    plan = replace(plan, prices=prices_for(plan.counters, random))

    account, choice = Account.fresh(1, len(MODELS), plan.counters), []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), n], strict=True):
        rows = slice(min(start, n), min(stop, n))
        part = route(account, plan, 0, estimates.rows(rows), np.arange(n)[rows], terms=terms.rows(rows))
        account = part.account
        choice += part.choice.tolist()

    assert choice == one_at_a_time(plan, estimates, terms)
    granted = plan.lane_columns(0, account.counters).granted
    assert (account.available(granted) >= 0).all()
    usd = [b for b, budget in enumerate(account.counters.budgets) if budget.unit == "usd"]
    is_usd = np.isin(account.counters.budget_of, usd)
    np.testing.assert_array_equal(account.use[is_usd][:, :, 1].sum(1), account.charged[is_usd])


@given(st.integers(2, 60), st.integers(0, 2**32), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_lane_beside_a_pool_decides_a_batch_as_its_queries(n: int, seed: int, kinds: int):
    estimates, terms, random = random_case(n, seed)
    plan = a_plan(tuple(BUDGETS[b] for b in sorted(random.permutation(len(BUDGETS))[:kinds])))
    half, pooled = plan.budgets // 2, random.random(len(plan.budgets)) < 0.5
    plan = replace(
        plan,
        prices=prices_for(plan.counters, random),
        overflow=True,
        granted=np.stack([half, half]),
        target=np.stack([half, np.where(pooled, half, 0)]),
    )

    at_once = route(Account.fresh(1, 3, plan.counters), plan, 0, estimates, np.arange(n), terms=terms)
    account, choice = Account.fresh(1, 3, plan.counters), []
    for j in range(n):
        row = slice(j, j + 1)
        one = route(account, plan, 0, estimates.rows(row), np.array([j]), terms=terms.rows(row))
        account = one.account
        choice += one.choice.tolist()

    assert at_once.choice.tolist() == choice
    np.testing.assert_array_equal(at_once.account.charged, account.charged)


@pytest.mark.parametrize(
    ("budget", "pool", "choices"),
    [
        pytest.param(Budget("total", limit=1e-4), 0, [2, UNSERVED], id="nothing-left-anywhere"),
        pytest.param(Budget("total", limit=1e-4), 1, [2, DEFERRED], id="the-pool-may-pay"),
        pytest.param(Budget("c", limit=1e-4, models=("c",)), 0, [2, 1], id="another-llm-can-pay"),
        pytest.param(Budget("c", limit=1e-4, models=("c",)), 1, [2, DEFERRED], id="the-best-may-be-paid"),
    ],
)
def test_lane_defers_only_to_a_pool_that_may_pay(budget: Budget, pool: int, choices: list[int]):
    plan = a_plan((budget, Budget("queries", "queries", limit=9)))
    target = np.stack([plan.budgets, np.array([pool, 0])])
    plan = replace(plan, overflow=True, granted=np.stack([plan.budgets, 0 * plan.budgets]), target=target)
    estimates = Estimates(np.tile([0.2, 0.4, 0.6], (2, 1)), np.full((2, 3), 1e-4))

    routed = route(Account.fresh(1, 3, plan.counters), plan, 0, estimates, np.arange(2))

    assert routed.choice.tolist() == choices


def test_settlement_returns_to_the_counters_of_the_reservation():
    estimates, terms, _ = random_case(40, 5)
    plan = a_plan(BUDGETS)
    routed = route(Account.fresh(0, 3), plan, 0, estimates, np.arange(40), terms=terms)
    served = np.flatnonzero(routed.choice >= 0)
    assert len(served) > 3
    nothing = np.zeros(len(served), dtype=np.int64)

    after = routed.account.settle(
        routed.choice[served],
        routed.charge[served],
        nothing,
        routed.columns[served],
        (routed.tokens[served], nothing),
    )

    units = [after.counters.budgets[b].unit for b in after.counters.budget_of]
    assert all(amount == 0 for amount, unit in zip(after.charged, units, strict=True) if unit != "queries")
    assert after.charged[plan.counters.column_of["rate", None]] > 0
    assert after.settlements.sum() == len(served)


def test_state_of_counters_is_written_and_read_by_counter():
    estimates, terms, _ = random_case(40, 6)
    plan = a_plan(BUDGETS)
    before = Account.fresh(1, 3, plan.counters)
    after = route(before, plan, 0, estimates, np.arange(40), terms=terms).account

    restored = Account.fresh(1, 3, after.counters)
    columns = changed_columns(before, after)
    for column, state in zip(columns, after.counter_states(columns), strict=True):
        restored = restored.with_counter_state(column, state)

    assert not len(changed_columns(after, replace(restored, counters=after.counters)))
    assert len(changed_columns(before, before)) == 0


@pytest.mark.parametrize(
    ("eligible", "price", "limit", "why", "names"),
    [
        (True, 0.0, 1.0, SERVED, ""),
        (False, 0.0, 1.0, NO_ELIGIBLE_LLM, ""),
        (True, 1e9, 1.0, NOT_WORTH_IT, ""),
        (True, 0.0, 1e-6, BUDGET_EXHAUSTED, "total"),
        (True, 1e9, 0.0, BUDGET_EXHAUSTED, "total"),
    ],
)
def test_a_query_without_an_llm_has_a_reason(eligible, price, limit, why, names):
    plan = a_plan((Budget("total", limit=limit),), np.array([price]))
    estimates = Estimates(np.full((1, 3), 0.5), np.full((1, 3), 1e-4))

    routed = route(
        Account.fresh(1, 3, plan.counters),
        plan,
        0,
        estimates,
        np.arange(1),
        terms=QueryTerms(eligible=np.full((1, 3), eligible)),
    )

    assert routed.why.tolist() == [why]
    shown = plan.counters.names[routed.exhausted[0]] if routed.exhausted[0] >= 0 else ""
    assert shown == names


def test_a_new_value_is_deferred_to_the_overflow_lane_which_may_spend_a_share():
    plan = a_plan((BUDGETS[5],))
    limits = plan.budgets
    plan = replace(plan, overflow=True, granted=np.stack([limits, 0 * limits]), target=np.stack([limits] * 2))
    estimates = Estimates(np.full((9, 3), 0.5), np.full((9, 3), 5e-5))
    terms = QueryTerms(values={"metadata.team": ["new"] * 9})

    on_lane = route(Account.fresh(1, 3, plan.counters), plan, 0, estimates, np.arange(9), terms=terms)
    on_pool = route(Account.fresh(1, 3, plan.counters), plan, 1, estimates, np.arange(9), terms=terms)

    assert on_lane.choice.tolist() == [DEFERRED] * 9
    assert on_lane.account.seen[on_lane.account.counters.column_of["team", "new"]] == 9
    # A fifth of 0.0005 USD pays for two of 0.00005 USD.
    assert (on_pool.choice >= 0).tolist() == [True] * 2 + [False] * 7
    listed = plan.with_counters(on_pool.account.counters)
    assert (on_pool.account.available(listed.granted[1]) >= 0).all()
    later = route(
        on_pool.account, listed, 1, estimates.rows(slice(1)), np.arange(1), terms=terms.rows(slice(1))
    )
    assert later.choice.tolist() == [UNSERVED]


def test_per_llm_budgets_with_weights_and_eligibility():
    estimates, terms, random = random_case(50, 11)
    own = Counters.per_llm(MODELS)
    limits = to_pico(np.full(3, 2e-3))
    plan = replace(
        a_plan(BUDGETS[:1]),
        counters=own,
        budgets=limits,
        granted=limits[None],
        target=limits[None],
        prices=random.uniform(0, 300, 3),
    )
    terms = replace(terms, values={})

    routed = route(Account.fresh(1, 3), plan, 0, estimates, np.arange(50), terms=terms)

    assert routed.columns is None
    assert all(terms.eligible[j, i] for j, i in enumerate(routed.choice) if i >= 0)
    as_budgets = tuple(Budget(name, limit=2e-3, models=(name, "zz")) for name in MODELS)
    general = a_plan(as_budgets, plan.prices)
    same = route(Account.fresh(1, 3, general.counters), general, 0, estimates, np.arange(50), terms=terms)
    assert same.choice.tolist() == routed.choice.tolist()
    assert same.why.tolist() == routed.why.tolist()
