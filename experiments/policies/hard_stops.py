"""One price for all groups and a hard stop for each, the baseline of a price per group."""

from __future__ import annotations

import numpy as np

from experiments.cases import Case
from experiments.policies.base import Decisions
from routing.budgets.budget import Budget
from routing.budgets.catalogue import TOTAL
from routing.budgets.money import to_pico, to_usd
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.policy import route


def hard_stops(case: Case, settings: PlanningSettings, estimates: Estimates, history: Estimates) -> Decisions:
    """Route by the price of the total; a group's queries go only to LLMs that the rest of its budget pays.

    Parameters
    ----------
    case : Case
        With groups.
    settings : PlanningSettings
        Without a warm-up: prices start from the history.
    estimates, history : Estimates
        Of the queries, and leave-one-out of the history.

    Raises
    ------
    ValueError
        The case has no groups, or the settings have a warm-up.
    """
    if not case.terms.values or settings.warmup != "history":
        raise ValueError("policies: prices=one needs --groups and prices from the history")
    (budget,) = case.shared
    (values,) = case.terms.values.values()
    left = {value: budget.limit_of(value) for value in budget.limits}
    planner = Planner(settings, case.models, (Budget(TOTAL, limit=case.total),), history=history)
    plan = planner.start_period()
    account = Account.fresh(0, len(case.models))
    charge, true_cost = to_pico(estimates.cost), to_pico(case.cost)
    choice = np.full(len(case), -1, dtype=np.int64)
    spent = np.zeros(len(case.models), dtype=np.int64)
    for j, value in enumerate(values):
        terms = QueryTerms(eligible=(charge[j] <= left[value])[None])
        row = slice(j, j + 1)
        routed = route(
            account, plan, 0, estimates.rows(row), np.arange(j, j + 1), charge=charge[row], terms=terms
        )
        account, choice[j] = routed.account, routed.choice[0]
        if choice[j] >= 0:
            actual = int(true_cost[j, choice[j]])
            if actual > left[value]:
                actual = 0  # By the accounting rule the query is lost.
            left[value] -= actual
            spent[choice[j]] += actual
            account = account.settle(routed.choice, routed.charge, np.array([actual]), routed.columns)
        planner.record_account(0, account)
        if planner.observe(estimates.rows(row)):
            plan = planner.plan
    return Decisions(choice, to_usd(spent))
