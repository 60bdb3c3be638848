"""The catalogue: names, slugs, budgets, and every mistake told at once."""

import numpy as np
import pytest

from routing.budgets import split_budget
from routing.catalogue import Catalogue, CatalogueError, Model


def problems(data: object) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        Catalogue.from_dict(data)
    return caught.value.problems


def test_names_and_slugs_keep_the_order_of_the_file():
    catalogue = Catalogue.from_dict({"budget_usd": 1, "models": ["mistralai/mixtral-8x7b chat", "gpt-4"]})

    assert catalogue.names == ("mistralai/mixtral-8x7b chat", "gpt-4")
    assert catalogue.slugs == ("mistralai-mixtral-8x7b-chat", "gpt-4")


def test_own_budgets_are_taken_as_they_are():
    catalogue = Catalogue((Model("a", budget_usd=1.5), Model("b", budget_usd=0)))

    assert catalogue.budgets([0.5, 0.5], [1, 1]).tolist() == [1.5, 0.0]


@pytest.mark.parametrize("split", ["weighted", "cost", "perf", "uniform"])
def test_a_total_is_split_by_the_rule(split: str):
    catalogue = Catalogue((Model("a"), Model("b")), budget_usd=10.0, split=split)
    quality, cost = np.array([0.8, 0.4]), np.array([0.2, 0.1])

    budgets = catalogue.budgets(quality, cost)

    assert budgets.tolist() == split_budget(10.0, quality, cost, split).tolist()
    assert budgets.sum() == pytest.approx(10.0)


def test_two_names_with_one_topic_are_refused():
    assert problems({"budget_usd": 1, "models": ["a/b", "a b"]}) == [
        "name: 'a b' and 'a/b' have the same topic llm.a-b to Kafka; rename one"
    ]
    # a broker that has the first does not create the second
    assert problems({"budget_usd": 1, "models": ["gpt_4.1", "gpt.4_1"]}) == [
        "name: 'gpt.4_1' and 'gpt_4.1' have the same topic llm.gpt.4_1 to Kafka; rename one"
    ]


def test_every_mistake_is_told_at_once():
    found = problems(
        {
            "budgets": 3,
            "split": "even",
            "models": ["a", "a", {"budget_usd": 1}, 7, {"name": "b", "input_price": -1, "price": 2}],
        }
    )

    told = "\n".join(found)
    assert "'budgets' is unknown" in told
    assert "'even' is none of weighted" in told
    assert "'a' is there twice" in told
    assert "models[2]: has no name" in told
    assert "models[3]: 7 is neither a name nor a mapping" in told
    assert "'price' is unknown" in told
    assert "input_price of 'b': -1 must be a number" in told
    assert "budget_usd: missing for ['a', 'a', 'b']" in told
    assert len(found) == 8


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf"), "1e-3", True, 1e9])
def test_a_budget_that_is_no_amount_is_refused(budget: object):
    (problem,) = problems({"budget_usd": budget, "models": ["a"]})

    assert problem.startswith("budget_usd: ")
    assert repr(budget) in problem


def test_total_and_own_budgets_do_not_mix():
    (problem,) = problems({"budget_usd": 1, "models": [{"name": "a", "budget_usd": 1}]})

    assert "either the total or one for every LLM" in problem


@pytest.mark.parametrize("data", [None, [], "a", {}, {"models": []}, {"models": "a"}])
def test_what_is_no_catalogue_is_refused(data: object):
    assert problems(data)


@pytest.mark.parametrize(
    "catalogue",
    [
        Catalogue((Model("a"), Model("b", output_price=3.0)), budget_usd=2.0, split="cost"),
        Catalogue((Model("a", 1.0, 0.5, 1.5), Model("b/c", 0.0))),
    ],
)
def test_plain_data_and_back(catalogue: Catalogue):
    assert Catalogue.from_dict(catalogue.to_dict()) == catalogue
