"""Catalogue: names, slugs, budgets, and errors that report all problems."""

import numpy as np
import pytest

from routing.budgets.catalogue import Catalogue
from routing.budgets.counters import Counters
from routing.budgets.model import Model
from routing.budgets.period import CalendarPeriod
from routing.budgets.schema import CatalogueError
from routing.budgets.splits import split_budget


def problems(data: object) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        Catalogue.from_dict(data)
    return caught.value.problems


def test_catalogue_names_and_slugs_keep_the_order():
    catalogue = Catalogue.from_dict({"budget_usd": 1, "models": ["mistralai/mixtral-8x7b chat", "gpt-4"]})

    assert catalogue.names == ("mistralai/mixtral-8x7b chat", "gpt-4")
    assert catalogue.slugs == ("mistralai-mixtral-8x7b-chat", "gpt-4")


def test_budgets_own_amounts_are_unchanged():
    catalogue = Catalogue((Model("a", budget_usd=1.5), Model("b", budget_usd=0)))

    assert catalogue.budget_per_llm([0.5, 0.5], [1, 1]).tolist() == [1.5, 0.0]


@pytest.mark.parametrize("split", ["weighted", "cost", "perf", "uniform"])
def test_budgets_total_is_split_by_the_rule(split: str):
    catalogue = Catalogue((Model("a"), Model("b")), budget_usd=10.0, split=split)
    quality, cost = np.array([0.8, 0.4]), np.array([0.2, 0.1])

    budgets = catalogue.budget_per_llm(quality, cost)

    assert budgets.tolist() == split_budget(10.0, quality, cost, split).tolist()
    assert budgets.sum() == pytest.approx(10.0)


def test_catalogue_names_with_one_topic_raise():
    assert problems({"budget_usd": 1, "models": ["a/b", "a b"]}) == [
        "name: 'a b' and 'a/b' have the same topic llm.a-b to Kafka; rename one"
    ]
    # A broker with the first topic does not create the second.
    assert problems({"budget_usd": 1, "models": ["gpt_4.1", "gpt.4_1"]}) == [
        "name: 'gpt.4_1' and 'gpt_4.1' have the same topic llm.gpt.4_1 to Kafka; rename one"
    ]


def test_from_dict_reports_all_problems():
    reported = problems(
        {
            "budget": 3,
            "split": "even",
            "models": ["a", "a", {"budget_usd": 1}, 7, {"name": "b", "input_price": -1, "price": 2}],
        }
    )

    text = "\n".join(reported)
    assert "'budget' is unknown" in text
    assert "'even' is none of weighted" in text
    assert "'a' is a duplicate" in text
    assert "models[2]: has no name" in text
    assert "models[3]: 7 is neither a name nor a mapping" in text
    assert "'price' is unknown" in text
    assert "input_price of 'b': -1 must be a number" in text
    assert "there is no total to divide" in text
    assert len(reported) == 8


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf"), "1e-3", True, 1e9])
def test_from_dict_invalid_budget_raises(budget: object):
    (problem,) = problems({"budget_usd": budget, "models": ["a"]})

    assert problem.startswith("budget_usd: ")
    assert repr(budget) in problem


def test_from_dict_split_total_and_own_budgets_raise():
    (problem,) = problems({"budget_usd": 1, "split": "weighted", "models": [{"name": "a", "budget_usd": 1}]})

    assert "remove `split`, so that all LLMs share the total, or the LLM's budget" in problem


def test_from_dict_llm_without_any_budget_raises():
    (problem,) = problems({"models": ["a", {"name": "b", "budget_usd": 1}]})

    assert problem.startswith("budget_usd: missing for ['a']")


def test_total_alone_is_one_shared_budget():
    catalogue = Catalogue.from_dict({"budget_usd": 2, "models": ["a", {"name": "b", "budget_usd": 1}]})

    budgets = catalogue.resolve_budgets([0.5, 0.5], [1.0, 1.0])

    assert [(one.name, one.limit, one.models) for one in budgets] == [
        ("total", 2, ("*",)),
        ("b", 1.0, ("b",)),
    ]


def test_split_gives_one_budget_per_llm():
    catalogue = Catalogue((Model("a"), Model("b")), budget_usd=10.0, split="uniform")

    counters = Counters.of(catalogue.resolve_budgets([0.8, 0.4], [0.2, 0.1]), catalogue.names)

    assert counters.is_per_llm
    assert counters.limits().tolist() == [5 * 10**12] * 2


def test_from_dict_reads_all_kinds_of_budgets():
    catalogue = Catalogue.from_dict(
        {
            "budgets": [
                {"name": "all", "limit_usd": 500},
                {"name": "openai", "models": ["gpt-*"], "limit_usd": 200},
                {"name": "team", "group_by": "metadata.team", "limits": {"search": 50}, "default": 5},
                {"name": "rate", "models": ["gpt-4"], "limit_queries": 600, "per": "minute", "burst": 100},
            ],
            "period": {"every": "month", "time_zone": "Europe/Berlin"},
            "allow": [{"field": "metadata.region", "values": ["eu"], "models": ["mistral"]}],
            "models": [
                {
                    "name": "gpt-4",
                    "input_price": 10,
                    "context_window": 128_000,
                    "capabilities": ["tools", "vision"],
                },
                "mistral",
            ],
        }
    )

    assert [one.unit for one in catalogue.budgets] == ["usd", "usd", "usd", "queries"]
    assert catalogue.budgets[1].covers(catalogue.names).tolist() == [True, False]
    assert catalogue.budgets[3].rate_of() == 10.0
    assert catalogue.period == CalendarPeriod("month", time_zone="Europe/Berlin")
    assert catalogue.allow[0].allowed("eu", catalogue.names).tolist() == [False, True]
    assert catalogue.models[0].capabilities == ("tools", "vision")
    assert Catalogue.from_dict(catalogue.to_dict()) == catalogue


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({"name": "x"}, "has no limit"),
        ({"limit_usd": 1}, "budgets[0].name: None"),
        ({"name": "x", "limit_usd": -1}, "budgets[0].limit_usd: -1 must be a number"),
        ({"name": "x", "limit_usd": 1, "limit_queries": 2}, "keep one"),
        ({"name": "x", "limit_usd": 1, "unit": "tokens"}, "contradicts limit_usd"),
        ({"name": "x", "limit_usd": 1, "burst": 2}, "only a rate has one"),
        ({"name": "x", "limit_usd": 1, "per": "week"}, "'week' is none of second, minute, hour, day"),
        ({"name": "x", "limits": {"a": 1}}, "only a budget with `group_by`"),
        ({"name": "x", "group_by": "team", "default": 1}, "must be metadata.NAME or header:NAME"),
        ({"name": "x", "group_by": "metadata.team", "limit_usd": 1, "default": 1}, "either"),
        ({"name": "x", "group_by": "metadata.team", "limits": {"a": "1e-3"}}, "write 1.0e-3"),
        ({"name": "x", "limit_usd": 1, "models": 3}, "must be a list of names or globs"),
        ({"name": "x", "limit_usd": 1, "max_values": 0}, "max_values: 0 must be a whole number"),
        ({"name": "x", "limit_usd": 1, "limit": 0}, "'limit' is unknown"),
        (7, "is not a mapping"),
    ],
)
def test_from_dict_invalid_budgets_raise(budget: object, text: str):
    assert any(text in problem for problem in problems({"budgets": [budget], "models": ["a"]}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_window", 0.5),
        ("capabilities", ["telepathy"]),
        ("capabilities", "tools"),
        ("batch_discount", 2),
        ("request_fee", -1),
        ("cached_input_price", "1"),
    ],
)
def test_from_dict_invalid_fields_of_llms_raise(field: str, value: object):
    (problem,) = problems({"models": [{"name": "a", "budget_usd": 1, field: value}]})

    assert field in problem


@pytest.mark.parametrize(
    ("period", "text"),
    [
        ({"every": "year"}, "'year' is none of day, week, month"),
        ({"every": "month", "start_day": 31}, "start_day: 31 must be a whole number from 1 to 28"),
        ({"every": "day", "time_zone": "Europe/Bonn"}, "no IANA time zone"),
        ({"queries": 0}, "period.queries: 0"),
        ({"seconds": 5, "queries": 5}, "must be one of"),
        (7, "must be one of"),
    ],
)
def test_from_dict_invalid_periods_raise(period: object, text: str):
    (problem,) = problems({"budget_usd": 1, "period": period, "models": ["a"]})

    assert text in problem


@pytest.mark.parametrize("data", [None, [], "a", {}, {"models": []}, {"models": "a"}])
def test_from_dict_invalid_data_raises(data: object):
    assert problems(data)


@pytest.mark.parametrize(
    "catalogue",
    [
        Catalogue((Model("a"), Model("b", output_price=3.0)), budget_usd=2.0, split="cost"),
        Catalogue((Model("a", 1.0, 0.5, 1.5), Model("b/c", 0.0))),
    ],
)
def test_from_dict_inverts_to_dict(catalogue: Catalogue):
    assert Catalogue.from_dict(catalogue.to_dict()) == catalogue
