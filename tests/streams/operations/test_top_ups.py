"""Amounts of top-ups: units, and what is refused."""

import pytest

from routing.budgets.budget import Budget
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.plan import Plan
from streams.operations.top_ups import top_up_amount, top_up_line

TEAM = Budget("team", group_by="metadata.team", limits={"search": 50.0}, default=5.0)


@pytest.fixture
def plan() -> Plan:
    budgets = (
        Budget("total", limit=100.0),
        Budget("day", "queries", limit=600),
        Budget("rate", "queries", limit=60, per="minute"),
        TEAM,
    )
    planner = Planner(PlanningSettings(horizon=100), ("a", "b"), budgets)
    return planner.start_period()


def test_amounts_are_in_the_smallest_unit_of_the_counter(plan: Plan) -> None:
    assert top_up_amount(plan, "team=search", 20) == 20 * 10**12
    assert top_up_amount(plan, "day", 20) == 20
    line = top_up_line(plan, "team=search", 20 * 10**12, 30 * 10**12)
    assert line == "team=search: 20 USD more in period 1, a limit of 80 USD until the period ends"


@pytest.mark.parametrize(
    ("name", "amount", "problem"),
    [
        ("totals", 1, "budget: 'totals' is not in the plan, which has total, day, rate, team=search"),
        ("a", 1, "budget: 'a' is not in the plan"),
        ("team", 1, "name one, such as team=VALUE"),
        ("team=new", 1, "value: 'new' has had no query on the budget team"),
        ("rate", 1, "rate is a rate"),
        ("total", 0, "amount: 0 must be above 0"),
        ("total", -3, "amount: -3 must be above 0"),
        ("total", float("nan"), "amount: nan must be above 0"),
        ("total", 9e6, "more than 9000000 USD; its limit is 100 USD"),
        ("total", 1e300, "more than 9000000 USD"),
        ("day", 1e15, "more than 1000000000000000 queries; its limit is 600 queries"),
        ("day", 0.5, "amount: 0.5 must be a whole number, because day counts queries"),
    ],
)
def test_wrong_top_ups_are_refused(plan: Plan, name: str, amount: float, problem: str) -> None:
    with pytest.raises(ValueError, match=r"(amount|budget|value): ") as error:
        top_up_amount(plan, name, amount)
    assert problem in str(error.value)
