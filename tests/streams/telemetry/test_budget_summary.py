"""Budgets of the current period: every scope, listed values, and the rest as one."""

import pytest

from streams.telemetry.budget_summary import TOP_VALUES
from streams.telemetry.cluster_summary import budget_figures, summarise_cluster
from streams.telemetry.timeline import point
from tests.streams.sample_cluster import (
    TEAMS,
    make_figures,
    make_ledgers,
    make_plan,
    make_shared_ledgers,
    make_shared_plan,
)


def test_every_scope_is_summed_in_its_unit() -> None:
    total, team, few, pace = make_figures().summaries()
    queries = len(TEAMS) + 9
    (of_total,), (of_few,), (of_pace,) = total.counters, few.counters, pace.counters
    assert of_total.spent == pytest.approx(queries * 0.5)
    assert of_total.reserved == pytest.approx(queries * 0.3)
    assert of_total.left == pytest.approx(60 - queries * 0.8)
    assert of_total.share == pytest.approx(queries * 0.8 / 60)
    assert (few.unit, few.models, of_few.limit, of_few.spent) == ("queries", ("small",), 100, queries)
    assert (pace.per, of_pace.share) == ("minute", None)
    assert (total.values, total.group_by, team.group_by) == (0, None, "metadata.team")


def test_listed_values_have_figures_of_their_own_and_the_rest_are_one() -> None:
    team = make_figures().summaries()[1]
    assert [one.value for one in team.counters] == ["search", "ads"]
    assert team.values == len(TEAMS) + 2, "and the empty value, and other"
    assert team.counters[0].share == pytest.approx(0.8)
    assert team.others is not None
    assert team.others.spent == pytest.approx(40 * 0.5)
    assert team.others.share == pytest.approx(0.8)
    assert len(team.top) == TOP_VALUES


def test_search_finds_values_by_a_part_of_them() -> None:
    figures = make_figures()
    assert {one.value for one in figures.search("team", "TEAM-3")} == {
        "team-3",
        *(f"team-{n}" for n in range(30, 40)),
    }
    assert figures.search("total", "") == []
    assert {one.value for one in figures.search("team", "", 3)} < set(TEAMS)


def test_with_a_budget_per_llm_each_llm_is_a_budget() -> None:
    overview = summarise_cluster(make_plan(), make_ledgers(), now=1100.0)
    assert [budget.name for budget in overview.budgets] == [model.name for model in overview.models]
    for budget, model in zip(overview.budgets, overview.models, strict=True):
        (one,) = budget.counters
        assert (one.limit, one.left) == (model.budget, model.left)
        assert (one.spent, one.reserved, one.served) == (model.settled, model.reserved, model.served)


def test_point_of_the_timeline_has_limits_and_charges_by_name() -> None:
    overview = summarise_cluster(make_shared_plan(), make_shared_ledgers(), now=1100.0)
    budgets = point(overview, 1100.0, 0)["budgets"]
    assert list(budgets) == ["total", "few", "team=search", "team=ads"]
    assert budgets["team=search"] == [pytest.approx(10), pytest.approx(8)]


def test_figures_of_a_plan_without_accounts_are_zero() -> None:
    figures = budget_figures(make_shared_plan(), {})
    assert all(one.spent == one.reserved == 0 for budget in figures.summaries() for one in budget.counters)
