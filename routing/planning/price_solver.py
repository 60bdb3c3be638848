"""Prices of a plan's budgets by the solver in the settings."""

from __future__ import annotations

from typing import Literal

import numpy as np

from routing.arrays import FloatArray
from routing.budgets.money import to_usd
from routing.estimators.base import Estimates
from routing.planning.lp_prices import solve_lp
from routing.planning.newton_prices import newton_prices
from routing.policy.pause import paused_columns
from routing.policy.plan import Plan

MIN_BUDGET_SHARE = 1e-9
"""Share of an LLM's budget that Newton's method assumes when less is left."""


def solve_prices(
    solver: Literal["exact", "newton"],
    plan: Plan,
    estimates: Estimates,
    budgets: FloatArray,
    weights: FloatArray | None = None,
) -> FloatArray:
    """Return the dual prices of the budgets, quality per USD, shape [M].

    Closed LLMs have no budget. Paused LLMs take no part, and keep their prices.

    Parameters
    ----------
    solver : {"exact", "newton"}
    plan : Plan
        In force. Newton's method starts from its prices.
    estimates : Estimates
        Of n sampled queries, [n, M].
    budgets : ndarray of float64, shape [M]
        USD that the n queries may spend.
    weights : ndarray of float64, shape [n], optional
        Number of queries that each row stands for; one each by default.
    """
    budgets = np.where(plan.active, budgets, 0.0)
    paused = paused_columns(plan.paused, plan.models)
    if paused.any():
        estimates = Estimates(np.where(paused, 0.0, estimates.quality), estimates.cost)
    prices = _solved(solver, plan, estimates, budgets, weights)
    return np.where(paused, plan.prices, prices)


def _solved(
    solver: Literal["exact", "newton"],
    plan: Plan,
    estimates: Estimates,
    budgets: FloatArray,
    weights: FloatArray | None,
) -> FloatArray:
    if solver == "exact":
        return solve_lp(estimates.quality, estimates.cost, budgets).prices
    start = plan.prices if plan.version else None
    floor = MIN_BUDGET_SHARE * np.maximum(to_usd(plan.budgets), 1e-12)
    funds = np.maximum(budgets, floor)
    return newton_prices(estimates.quality, estimates.cost, funds, start=start, weights=weights)
