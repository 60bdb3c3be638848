"""The contract of all policies (online, deterministic, within budgets), and the rule of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.cases import Case, Split
from experiments.policies.port import PortPublished
from experiments.policies.registry import EXACT, NAMES, Context, make_policy
from experiments.policies.simple import BatchSplit, GreedyBudget, GreedyQuality
from routing.accounting import account_for
from routing.embedding.bytes_embedder import BytesEmbedder
from routing.embedding.query_batch import QueryBatch
from routing.estimators.base import Estimates
from routing.estimators.neighbours import Neighbours
from routing.estimators.ridge import RidgeEstimator
from routing.fitting.presets import PRESETS
from routing.history.history import History

QUERIES = 160
NEEDS_INPUT = {"roberta-perf": "trained models", "roberta-cost": "trained models", "port-static": "a table"}
TESTED = [name for name in NAMES if name not in NEEDS_INPUT]
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
    "random": "draws regardless of budgets",
    "best-single": "sends everything to one LLM regardless of its budget",
    "cheapest": "sends everything to one LLM regardless of its budget",
    "greedy-perf": "sends to the best LLM regardless of budgets, as published",
    "knn-perf": "sends to the best LLM regardless of budgets, as published",
    "greedy-cost": "ranks LLMs by remaining budget but does not enforce it, as published",
    "knn-cost": "ranks LLMs by remaining budget but does not enforce it, as published",
    "port-published": "uses prices only, regardless of budgets, as published",
    "approx-optimum": "the program's shares keep within budgets; rounding them does not",
    "optimum": "the program's shares keep within budgets; rounding them does not",
}
"""Policies that keep no account, and the reason; by the accounting rule, queries beyond a budget are lost."""

IGNORES_BUDGETS = set(NO_ACCOUNT) - {"approx-optimum", "optimum"}
ROUNDING_USD = 1e-12
"""The router counts in picodollars."""


def sample_split(models=4, seed=0, rows=1170, *, ties=False):
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
        vectors,
        "made",
        QUERIES,
        seed,
    )


# Policies share the cases below, so that each source of estimates is fitted once for each case.


@pytest.fixture(scope="module")
def case():
    return Case.of(sample_split())


@pytest.fixture(scope="module")
def equal_case():
    """The same case with estimates of its own."""
    return Case.of(sample_split())


@pytest.fixture(scope="module")
def one_by_one_case():
    """The same case, for estimates that are made one query at a time."""
    return Case.of(sample_split())


@pytest.fixture(scope="module")
def one_llm_case():
    return Case.of(sample_split(models=1, seed=3), factor=0.5)


@pytest.fixture(scope="module")
def tied_cases():
    """Two equal cases, each with estimates of its own, in which LLMs tie."""
    return [Case.of(sample_split(models=3, seed=4, ties=True)) for _ in range(2)]


@pytest.fixture(params=TESTED + VARIANTS)
def policy(request, case):
    return make_policy(request.param, Context(rows=len(case.split.past)))


def test_policy_keeps_an_account_if_it_is_listed_so(policy, case):
    """A new policy must be listed in one of the two sets; only those with an account are bounded."""
    name = policy.name.split(":")[0]
    assert (name in NO_ACCOUNT) != (name in ACCOUNT)
    assert (policy.decide(case).charged is not None) == (name in ACCOUNT)


def test_policy_run_twice_decides_every_query_alike(policy, case, equal_case):
    first = policy.decide(case)
    assert first.choice.shape == (QUERIES,)
    assert ((first.choice >= -1) & (first.choice < len(case.models))).all()
    second = make_policy(policy.name, Context(rows=len(equal_case.split.past))).decide(equal_case)
    np.testing.assert_array_equal(first.choice, second.choice)


@pytest.mark.parametrize("name", ["random", "port-published", "port:warmup=random"])
def test_random_policy_depends_on_the_seed(case, name):
    policy = make_policy(name, Context(rows=len(case.split.past)))
    choices = [policy.decide(replace(case, seed=seed)).choice for seed in (0, 0, 1)]
    np.testing.assert_array_equal(choices[0], choices[1])
    assert (choices[0] != choices[2]).any()


def test_policy_decisions_do_not_depend_on_later_queries(policy, case):
    if policy.block is None:
        pytest.skip("an oracle sees the whole test set by definition")
    choice_of_all = policy.decide(case).choice
    # The buffered first queries of a period are one block.
    first = 8 if policy.name.startswith("port") else 0
    for stop in {stop - stop % policy.block for stop in (1, 2, 10, 81, 159)}:
        if stop > first:
            np.testing.assert_array_equal(policy.decide(case.head(stop)).choice, choice_of_all[:stop])


def test_policy_with_queries_estimated_one_by_one_decides_alike(policy, case, one_by_one_case, monkeypatch):
    choice_of_all = policy.decide(case).choice
    for kind in (Neighbours, RidgeEstimator):
        monkeypatch.setattr(kind, "estimate", one_by_one(kind.estimate))
    monkeypatch.setattr(BytesEmbedder, "embed", embedding_one_by_one(BytesEmbedder.embed))
    alone = policy.decide(one_by_one_case)
    np.testing.assert_array_equal(alone.choice, choice_of_all)


def one_by_one(estimate):
    def alone(self, batch):
        parts = [
            estimate(
                self,
                QueryBatch(
                    [batch.prompts[i]],
                    batch.embeddings[i : i + 1],
                    None if batch.counts is None else batch.counts[i : i + 1],
                ),
            )
            for i in range(len(batch))
        ]
        return Estimates(
            np.vstack([part.quality for part in parts]), np.vstack([part.cost for part in parts])
        )

    return alone


def embedding_one_by_one(embed):
    def alone(self, prompts):
        if len(prompts) != QUERIES:
            return embed(self, prompts)  # the history, which a fit embeds at once
        parts = [embed(self, [prompt]) for prompt in prompts]
        counts = [part.counts for part in parts]
        return QueryBatch(prompts, np.vstack([part.embeddings for part in parts]), np.vstack(counts))

    return alone


def assert_spends_within_budgets(policy, case):
    """Recompute the account of a policy from its choices, check it, and return the choices."""
    decisions = policy.decide(case)
    estimated = case.estimates(policy.source).cost
    settled = getattr(policy, "settle", False)
    spent = np.zeros(len(case.models))
    for j, llm in enumerate(decisions.choice):
        if llm < 0:
            continue
        assert spent[llm] + estimated[j, llm] <= case.budgets[llm] * (1 + 1e-9) + ROUNDING_USD, j
        paid = case.cost[j, llm] if settled else estimated[j, llm]
        if settled and spent[llm] + paid > case.budgets[llm]:
            paid = 0.0  # lost by the accounting rule, and settled at 0
        spent[llm] += paid
    assert (decisions.charged <= case.budgets * (1 + 1e-9) + ROUNDING_USD).all()
    np.testing.assert_allclose(decisions.charged, spent, rtol=1e-9, atol=QUERIES * ROUNDING_USD)
    return decisions.choice


def test_policy_with_an_account_never_exceeds_budgets(policy, case):
    if policy.name.split(":")[0] in NO_ACCOUNT:
        pytest.skip(NO_ACCOUNT[policy.name.split(":")[0]])
    for budgets in (case.budgets, case.budgets / 20, case.budgets * np.array([0, 1, 0.1, 3])):
        choice = assert_spends_within_budgets(policy, case.with_budgets(budgets))
        assert (choice >= 0).any()


def test_policy_sends_nothing_to_llms_without_budget(policy, case):
    no_budget = case.with_budgets(np.zeros(len(case.models)))
    one_budget = case.with_budgets(np.where(np.arange(len(case.models)) == 1, case.budgets, 0))
    if policy.name.split(":")[0] in IGNORES_BUDGETS:
        pytest.skip(
            "sends regardless of budgets, as published; those queries are lost by the accounting rule"
        )
    assert set(policy.decide(no_budget).choice) == {-1}
    assert set(policy.decide(one_budget).choice) == {-1, 1}


@pytest.mark.parametrize("name", ["greedy-cost", "knn-cost"])
def test_greedy_rule_ranks_by_remaining_budget_without_enforcing_it(case, name):
    """As published: without any budget, the LLM that was charged least comes next."""
    policy = make_policy(name, Context(rows=len(case.split.past)))
    choice = policy.decide(case.with_budgets(np.zeros(len(case.models)))).choice
    remaining, estimated = np.zeros(len(case.models)), case.estimates(policy.source).cost
    for j, llm in enumerate(choice):
        assert llm == remaining.argmax()
        remaining[llm] -= estimated[j, llm]
    assert (remaining < 0).any()


def test_policy_with_one_llm_serves_what_its_budget_covers(policy, one_llm_case):
    case = one_llm_case
    policy = make_policy(policy.name, Context(rows=len(case.split.past)))
    if policy.name.split(":")[0] in ACCOUNT:
        choice = assert_spends_within_budgets(policy, case)
        assert set(choice) == {-1, 0}
    else:
        choice = policy.decide(case).choice
        assert set(choice) <= {-1, 0}
    outcome = account_for(choice, case.quality, case.cost, case.budgets)
    assert outcome.throughput >= 0.25 * QUERIES


def test_policy_breaks_ties_reproducibly(policy, tied_cases):
    case, equal = tied_cases
    policy = make_policy(policy.name, Context(rows=len(case.split.past)))
    choice = (
        assert_spends_within_budgets(policy, case)
        if policy.name.split(":")[0] in ACCOUNT
        else policy.decide(case).choice
    )
    again = policy.decide(equal).choice
    np.testing.assert_array_equal(choice, again)
    assert (choice >= 0).any()


def test_greedy_rules_choose_the_best_llm_and_the_largest_budget(case):
    quality = case.estimates(EXACT).quality
    np.testing.assert_array_equal(GreedyQuality("g", EXACT).decide(case).choice, quality.argmax(1))
    first = GreedyBudget("g", EXACT).decide(case).choice[0]
    assert first == case.budgets.argmax()


def test_batchsplit_finds_the_best_assignment_of_a_batch(case):
    few = case.head(QUERIES)
    ample = few.with_budgets(few.cost.sum(axis=0) * 2)
    estimated = few.estimates(EXACT).quality
    chosen = BatchSplit(EXACT).decide(ample).choice
    served = chosen >= 0
    assert estimated[np.arange(QUERIES)[served], chosen[served]].sum() >= 0.99 * estimated.max(1).sum()


def test_published_form_serves_every_query_after_the_random_ones(case):
    choice = PortPublished(EXACT).decide(case).choice
    assert (choice[8:] >= 0).all()


def test_port_policies_beat_random_and_the_published_form(case):
    performance = {}
    for name in ("random", "port-published", "port", "port-best", "optimum"):
        choice = make_policy(name, Context(rows=len(case.split.past))).decide(case).choice
        performance[name] = account_for(choice, case.quality, case.cost, case.budgets).performance
    assert performance["random"] < performance["port"] < performance["optimum"]
    assert performance["port-published"] < performance["port-best"] <= performance["optimum"] * (1 + 1e-9)


@pytest.mark.parametrize("name", ["nonsense", "port:colour=red", "random:k=3", "port-best:k=3"])
def test_make_policy_of_unknown_names_and_options_raises(name):
    with pytest.raises(ValueError, match="policies"):
        make_policy(name, Context(rows=1000))


@pytest.mark.parametrize("name", ["roberta-perf", "roberta-cost"])
def test_make_policy_of_roberta_without_models_raises(name):
    with pytest.raises(ValueError, match="train"):
        make_policy(name, Context(rows=1000))
