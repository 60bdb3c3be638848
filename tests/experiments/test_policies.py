"""One contract for every policy: onlineness, determinism, budgets; and what each rule says."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.policies.port import PortPublished
from experiments.policies.simple import BatchSplit, GreedyBudget, GreedyQuality
from experiments.registry import EXACT, NAMES, Context, make_policy
from experiments.split import Case, Split
from routing.history import History
from routing.simulate import account_for

QUERIES = 300
NEEDS_MORE = {"roberta-perf": "trained models", "roberta-cost": "trained models", "port-static": "a table"}
TESTED = [name for name in NAMES if name not in NEEDS_MORE]
VARIANTS = [
    "port:warmup=history:resolve=every:solver=newton",
    "port:warmup=random",
    "port:resolve=geometric",
    "port:resolve=every:settle=no",
    "port-best:without=across:mix=recent",
    "port-best:stack=grid",
    "port-best:stack=sum",
]


def made(models=4, seed=0, rows=1500, *, ties=False):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    difficulty = vectors[:, :1] * 2
    quality = np.clip(0.5 + difficulty + np.linspace(-0.3, 0.3, models), 0, 1)
    quality = np.round(quality) if ties else quality
    prompts = [f"question {i} " + "word " * int(n) for i, n in enumerate(rng.integers(5, 40, rows))]
    length = np.array([[len(p)] for p in prompts])
    cost = np.full((rows, models), 1e-4) if ties else length * np.logspace(-7, -5, models)
    ids = [f"q{i}" for i in range(rows)]
    tasks = [f"task-{int(v > 0)}" for v in vectors[:, 0]]
    return Split.of(
        History(ids, prompts, tasks, [f"m{i}" for i in range(models)], quality, cost),
        vectors, "made", QUERIES, seed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def case():
    return Case.of(made())


@pytest.fixture(params=TESTED + VARIANTS)
def policy(request, case):
    return make_policy(request.param, Context(rows=len(case.split.past)))


def test_decides_every_query_the_same_way_twice(policy, case):
    one, two = policy.decide(case), policy.decide(case)
    assert one.choice.shape == (QUERIES,)
    assert ((one.choice >= -1) & (one.choice < len(case.models))).all()
    np.testing.assert_array_equal(one.choice, two.choice)


def test_decisions_do_not_depend_on_later_queries(policy, case):
    if policy.block is None:
        pytest.skip("an oracle sees the whole test set by definition")
    whole = policy.decide(case).choice
    for stop in (policy.block, 256):
        stop -= stop % policy.block
        if not policy.name.startswith("port") or stop > 8:
            # the buffered first queries of a period wait for each other: they are one block
            np.testing.assert_array_equal(policy.decide(case.head(stop)).choice, whole[:stop])


def test_keeps_within_budget_by_its_own_account_and_by_the_rule(policy, case):
    decided = policy.decide(case)
    if decided.charged is not None:
        assert (decided.charged <= case.budgets * (1 + 1e-9) + 1e-12).all()
    spent = account_for(decided.choice, case.quality, case.cost, case.budgets).spent
    assert (spent <= case.budgets * (1 + 1e-9)).all()


def test_zero_budgets_serve_nothing(policy, case):
    nothing = case.with_budgets(np.zeros(len(case.models)))
    decided = policy.decide(nothing)
    assert account_for(decided.choice, case.quality, case.cost, nothing.budgets).throughput == 0
    one = np.zeros(len(case.models))
    one[1] = case.budgets[1]
    served = policy.decide(case.with_budgets(one)).choice
    outcome = account_for(served, case.quality, case.cost, one)
    assert set(served[outcome.counted]) <= {1}


def test_one_llm_and_ties_are_decided(case, request):
    for split in (made(models=1, seed=3), made(models=3, seed=4, ties=True)):
        small = Case.of(split)
        for name in TESTED:
            found = make_policy(name, Context(rows=len(split.past))).decide(small)
            assert found.choice.max() < len(small.models)


def test_greedy_rules_are_what_they_say(case):
    quality = case.estimates(EXACT).quality
    np.testing.assert_array_equal(GreedyQuality("g", EXACT).decide(case).choice, quality.argmax(1))
    first = GreedyBudget("g", EXACT).decide(case).choice[0]
    assert first == case.budgets.argmax()


def test_batchsplit_is_the_best_assignment_of_a_batch(case):
    few = case.head(256)
    ample = few.with_budgets(few.cost.sum(axis=0) * 2)
    estimated = few.estimates(EXACT).quality
    chosen = BatchSplit(EXACT).decide(ample).choice
    served = chosen >= 0
    assert estimated[np.arange(256)[served], chosen[served]].sum() >= 0.99 * estimated.max(1).sum()


def test_the_published_form_draws_first_and_never_leaves_out_later(case):
    choice = PortPublished(EXACT).decide(case).choice
    assert (choice[8:] >= 0).all()


def test_the_router_beats_what_it_should(case):
    reached = {}
    for name in ("random", "port-published", "port", "port-best", "optimum"):
        choice = make_policy(name, Context(rows=len(case.split.past))).decide(case).choice
        reached[name] = account_for(choice, case.quality, case.cost, case.budgets).performance
    assert reached["random"] < reached["port"] < reached["optimum"]
    assert reached["port-published"] < reached["port-best"] <= reached["optimum"] * (1 + 1e-9)


@pytest.mark.parametrize("name", ["nonsense", "port:colour=red", "random:k=3", "port-best:k=3"])
def test_unknown_names_and_options_are_refused(name):
    with pytest.raises(ValueError, match="policies"):
        make_policy(name, Context(rows=1000))


@pytest.mark.parametrize("name", ["roberta-perf", "roberta-cost"])
def test_roberta_says_what_it_needs(name):
    with pytest.raises(ValueError, match="train"):
        make_policy(name, Context(rows=1000))
