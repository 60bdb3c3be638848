"""Counters: columns of budgets and values, and values beyond the maximum."""

import numpy as np

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters

TEAM = Budget("team", group_by="metadata.team", limits={"ads": 1.0}, default=2.0, max_values=4)


def test_resolved_adds_values_up_to_the_maximum_then_shares_other():
    counters = Counters.of((Budget("total", limit=5.0), TEAM), ("a", "b"))

    after, columns = counters.resolved({"metadata.team": ["new", "ads", "newer", "new"]}, 4)

    assert after.names == ("total", "team=ads", "team=", "team=other", "team=new")
    assert columns.tolist() == [[0, 4], [0, 1], [0, 3], [0, 4]]
    assert after.resolved({"metadata.team": ["new"]}, 1)[0] is after


def test_queries_without_the_field_draw_on_the_empty_value():
    counters = Counters.of((TEAM,), ("a",))

    assert counters.columns({}, 2).tolist() == [[counters.column_of["team", ""]]] * 2


def test_limits_are_in_the_smallest_unit_and_a_rate_begins_with_its_burst():
    rate = Budget("rate", "queries", limit=600, per="minute", burst=100)
    counters = Counters.of((rate, Budget("tokens", "tokens", limit=7), TEAM), ("a",))

    assert counters.limits().tolist() == [100, 7, 10**12, 2 * 10**12, 2 * 10**12]
    assert counters.rates().tolist() == [10.0, 0.0, 0.0, 0.0, 0.0]


def test_changed_keeps_the_columns_and_appends_new_budgets_and_values():
    counters, _ = Counters.of((TEAM,), ("a",)).resolved({"metadata.team": ["new"]}, 1)

    other = Budget("team", group_by="metadata.team", limits={"ads": 9.0, "search": 3.0})
    after = counters.changed((Budget("total", limit=1.0), other), ("a", "b"))

    assert after.keys[: len(counters)] == counters.keys
    assert after.names[len(counters) :] == ("total", "team=search")
    assert after.covers.tolist() == [[True, True], [True, True]]
    assert after.limits()[0] == 9 * 10**12


def test_per_llm_counters_are_recognised():
    assert Counters.per_llm(("a", "b")).is_per_llm
    assert not Counters.of((Budget("total", limit=1.0),), ("a", "b")).is_per_llm
    assert not Counters.of((Budget("b", limit=1.0, models=("b",)),), ("a", "b")).is_per_llm
    np.testing.assert_array_equal(Counters.per_llm(("a", "b")).covers, np.eye(2, dtype=bool))
