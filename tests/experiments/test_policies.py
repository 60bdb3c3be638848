"""One contract for every policy: onlineness, determinism, budgets; and what each rule says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.policies.port import PortPublished
from experiments.policies.simple import BatchSplit, GreedyBudget, GreedyQuality
from experiments.registry import EXACT, NAMES, Context, make_policy
from experiments.split import Case, Split
from routing.bytes_embedder import BytesEmbedder
from routing.estimators.base import Estimates, QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.estimators.ridge import RidgeEstimator
from routing.history import History
from routing.presets import PRESETS
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
    "port-best:kernel=none",
    "port-best:deviation=-0.5",
]


ACCOUNT = {"batchsplit", "port", *(f"port-{name}" for name in PRESETS)}
NO_ACCOUNT = {
    "random": "draws, whatever is left",
    "best-single": "one LLM for all, whatever is left of its budget",
    "cheapest": "one LLM for all, whatever is left of its budget",
    "greedy-perf": "the best LLM, whatever is left, as published",
    "knn-perf": "the best LLM, whatever is left, as published",
    "greedy-cost": "what is left ranks the LLMs and bounds nothing, as published",
    "knn-cost": "what is left ranks the LLMs and bounds nothing, as published",
    "port-published": "prices alone, whatever is left, as published",
    "approx-optimum": "the program's shares keep within budgets; rounding to the largest one does not",
    "optimum": "the program's shares keep within budgets; rounding to the largest one does not",
}
"""Policies that keep no account, and why: the accounting rule loses what they send too much."""

SENDS_ANYWAY = set(NO_ACCOUNT) - {"approx-optimum", "optimum"}
ROUNDED = 1e-12
"""USD: the router counts in picodollars."""


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


def test_every_policy_is_known_to_keep_an_account_or_not(policy, case):
    """A new policy has to say which it is; no bound is asserted of those that keep none."""
    name = policy.name.split(":")[0]
    assert (name in NO_ACCOUNT) != (name in ACCOUNT)
    assert (policy.decide(case).charged is not None) == (name in ACCOUNT)


def test_decides_every_query_the_same_way_twice(policy, case):
    one = policy.decide(case)
    assert one.choice.shape == (QUERIES,)
    assert ((one.choice >= -1) & (one.choice < len(case.models))).all()
    # from the data again, so that nothing kept from the first time answers
    fresh = Case.of(made())
    two = make_policy(policy.name, Context(rows=len(fresh.split.past))).decide(fresh)
    np.testing.assert_array_equal(one.choice, two.choice)


@pytest.mark.parametrize("name", ["random", "port-published", "port:warmup=random"])
def test_what_is_drawn_depends_on_the_seed(case, name):
    policy = make_policy(name, Context(rows=len(case.split.past)))
    choices = [policy.decide(replace(case, seed=seed)).choice for seed in (0, 0, 1)]
    np.testing.assert_array_equal(choices[0], choices[1])
    assert (choices[0] != choices[2]).any()


def test_decisions_do_not_depend_on_later_queries(policy, case):
    if policy.block is None:
        pytest.skip("an oracle sees the whole test set by definition")
    whole = policy.decide(case).choice
    # the buffered first queries of a period wait for each other: they are one block
    first = 8 if policy.name.startswith("port") else 0
    for stop in {stop - stop % policy.block for stop in (1, 2, 10, 151, 299)}:
        if stop > first:
            np.testing.assert_array_equal(policy.decide(case.head(stop)).choice, whole[:stop])


def test_the_same_decisions_when_every_query_is_embedded_and_estimated_alone(policy, case, monkeypatch):
    whole = policy.decide(case).choice
    for kind in (Neighbours, RidgeEstimator):
        monkeypatch.setattr(kind, "estimate", one_by_one(kind.estimate))
    monkeypatch.setattr(BytesEmbedder, "embed", embedding_one_by_one(BytesEmbedder.embed))
    fresh = Case.of(made())
    alone = make_policy(policy.name, Context(rows=len(fresh.split.past))).decide(fresh)
    np.testing.assert_array_equal(alone.choice, whole)


def one_by_one(estimate):
    def alone(self, batch):
        found = [
            estimate(self, QueryBatch(
                [batch.prompts[i]], batch.embeddings[i : i + 1],
                None if batch.counts is None else batch.counts[i : i + 1],
            )) for i in range(len(batch))
        ]  # fmt: skip
        return Estimates(np.vstack([e.quality for e in found]), np.vstack([e.cost for e in found]))

    return alone


def embedding_one_by_one(embed):
    def alone(self, prompts):
        if len(prompts) != QUERIES:
            return embed(self, prompts)  # the history, which is embedded at once when it is fitted
        found = [embed(self, [prompt]) for prompt in prompts]
        counts = [one.counts for one in found]
        return QueryBatch(prompts, np.vstack([one.embeddings for one in found]), np.vstack(counts))

    return alone


def spends_within(policy, case):
    """The account of a policy, kept again beside it from its choices alone; returns the choices."""
    decided = policy.decide(case)
    estimated = case.estimates(policy.source).cost
    settled = getattr(policy, "settle", False)
    spent = np.zeros(len(case.models))
    for j, llm in enumerate(decided.choice):
        if llm < 0:
            continue
        assert spent[llm] + estimated[j, llm] <= case.budgets[llm] * (1 + 1e-9) + ROUNDED, j
        paid = case.cost[j, llm] if settled else estimated[j, llm]
        if settled and spent[llm] + paid > case.budgets[llm]:
            paid = 0.0  # lost by the accounting rule, and settled at nothing
        spent[llm] += paid
    assert (decided.charged <= case.budgets * (1 + 1e-9) + ROUNDED).all()
    np.testing.assert_allclose(decided.charged, spent, rtol=1e-9, atol=QUERIES * ROUNDED)
    return decided.choice


def test_never_beyond_budget_by_its_own_account(policy, case):
    if policy.name.split(":")[0] in NO_ACCOUNT:
        pytest.skip(NO_ACCOUNT[policy.name.split(":")[0]])
    for budgets in (case.budgets, case.budgets / 20, case.budgets * np.array([0, 1, 0.1, 3])):
        choice = spends_within(policy, case.with_budgets(budgets))
        assert (choice >= 0).any()


def test_zero_budgets_are_sent_nothing(policy, case):
    nothing = case.with_budgets(np.zeros(len(case.models)))
    one = case.with_budgets(np.where(np.arange(len(case.models)) == 1, case.budgets, 0))
    if policy.name.split(":")[0] in SENDS_ANYWAY:
        pytest.skip("sends whatever is left, as published: the accounting rule loses those queries")
    assert set(policy.decide(nothing).choice) == {-1}
    assert set(policy.decide(one).choice) == {-1, 1}


@pytest.mark.parametrize("name", ["greedy-cost", "knn-cost"])
def test_the_greedy_rules_account_ranks_and_bounds_nothing(case, name):
    """As published: with no budget at all, the LLM that was charged least comes next."""
    policy = make_policy(name, Context(rows=len(case.split.past)))
    choice = policy.decide(case.with_budgets(np.zeros(len(case.models)))).choice
    left, estimated = np.zeros(len(case.models)), case.estimates(policy.source).cost
    for j, llm in enumerate(choice):
        assert llm == left.argmax()
        left[llm] -= estimated[j, llm]
    assert (left < 0).any()


def test_one_llm_gets_what_it_can_pay(policy):
    case = Case.of(made(models=1, seed=3), factor=0.5)
    policy = make_policy(policy.name, Context(rows=len(case.split.past)))
    if policy.name.split(":")[0] in ACCOUNT:
        choice = spends_within(policy, case)
        assert set(choice) == {-1, 0}
    else:
        choice = policy.decide(case).choice
        assert set(choice) <= {-1, 0}
    outcome = account_for(choice, case.quality, case.cost, case.budgets)
    assert outcome.throughput >= 0.25 * QUERIES


def test_ties_are_decided_once_and_for_all(policy):
    case = Case.of(made(models=3, seed=4, ties=True))
    policy = make_policy(policy.name, Context(rows=len(case.split.past)))
    choice = (
        spends_within(policy, case) if policy.name.split(":")[0] in ACCOUNT else policy.decide(case).choice
    )
    again = policy.decide(Case.of(made(models=3, seed=4, ties=True))).choice
    np.testing.assert_array_equal(choice, again)
    assert (choice >= 0).any()


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
