"""Plans with counters: the first one, the next period's, and the one under another catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from routing.arrays import FloatArray, IntArray
from routing.budgets.budget import Budget
from routing.budgets.counters import CounterKey, Counters
from routing.budgets.money import to_pico
from routing.policy.plan import Plan

Budgets = FloatArray | Sequence[Budget]
"""USD of every LLM, [M], or budgets of any kind."""


def counters_of(models: tuple[str, ...], budgets: Budgets) -> tuple[Counters, IntArray]:
    """Return the counters of budgets and their limits in the smallest units, [K].

    Examples
    --------
    >>> counters_of(("a", "b"), np.array([1.0, 2.0]))[0].is_per_llm
    True
    """
    if isinstance(budgets, np.ndarray):
        return Counters.per_llm(models), to_pico(budgets)
    counters = Counters.of(budgets, models)
    return counters, counters.limits()


def new_period(
    plan: Plan, used_values: Sequence[CounterKey], now: float, ends_at: float | None, horizon: int
) -> Plan:
    """Return the plan of the next period, without grants; the last prices are in force until new ones are.

    Parameters
    ----------
    plan : Plan
        Of the last period, with the grants of lanes that may still spend.
    used_values : sequence of CounterKey
        Values that queries had in the last period. Other values are dropped, so that counters do not pile up.
    now : float
        Seconds since the epoch.
    ends_at : float, optional
        None: the period ends after `horizon` queries.
    horizon : int
        Expected queries.
    """
    changes: dict[str, Any] = {
        "period": plan.period + 1,
        "created_at": now,
        "began_at": now,
        "ends_at": ends_at,
        "horizon": horizon,
        "topped_up": {},
    }
    if plan.per_llm:
        none = np.zeros_like(plan.granted)
        # The new period's bill must not include the budget of a removed LLM.
        budgets = np.where(plan.active, plan.catalogue_limits, 0)
        return plan.changed(granted=none, target=none, budgets=budgets, **changes)
    active_budgets = [budget for budget in plan.counters.budgets if budget.models]
    counters = Counters.of(active_budgets, plan.models).with_keys(used_values)
    limits = counters.limits()
    prices = np.zeros(len(counters))
    grouped = counters.grouped
    granted = np.zeros((plan.lanes, len(counters)), dtype=np.int64)
    granted[:, grouped] = plan.first_grants(limits[grouped])
    for column, key in enumerate(counters.keys):
        old = plan.counters.column_of.get(key)
        prices[column] = plan.price_of_new(key[0]) if old is None else plan.prices[old]
        if old is not None and counters.budgets[counters.budget_of[column]].is_rate:
            # A rate goes on: only what no lane holds is carried over.
            free = int(plan.budgets[old]) - int(plan.granted[:, old].sum())
            limits[column] = min(max(0, free), int(limits[column]))
            granted[:, column] = 0
    return plan.changed(
        counters=counters,
        open=np.ones(len(counters), dtype=bool),
        budgets=limits,
        prices=prices,
        granted=granted,
        target=granted,
        **changes,
    )


def for_catalogue(plan: Plan, models: tuple[str, ...], budgets: Budgets, price: float) -> Plan:
    """Return the plan under another catalogue: LLMs and counters are added, missing ones are closed.

    Parameters
    ----------
    plan : Plan
        In force.
    models : tuple of str
        All LLMs of the catalogue.
    budgets
        As in `counters_of`, for these LLMs.
    price : float
        Price of the budgets of new LLMs.
    """
    topped_up, plan = plan.topped_up, replace(plan, budgets=plan.catalogue_limits, topped_up={})
    changed = _for_catalogue(plan, models, budgets, price)
    # also of a budget that is removed now: it keeps its limit for the rest of the period
    more = [topped_up.get(name, 0) for name in changed.counters.names]
    return replace(changed, budgets=changed.budgets + np.array(more, np.int64), topped_up=topped_up)


def with_top_ups(plan: Plan, amounts: Mapping[str, int]) -> Plan:
    """Return the plan with limits raised for this period, or the same plan if they are raised already.

    Parameters
    ----------
    plan : Plan
    amounts : mapping of str to int
        Total of the period by name of the counter, in its smallest unit. Rates, counters of removed budgets
        and unknown counters are ignored.
    """
    if all(plan.topped_up.get(name, 0) == amount for name, amount in amounts.items()):
        return plan
    limits, topped_up = plan.budgets.copy(), dict(plan.topped_up)
    column_of = {name: column for column, name in enumerate(plan.counters.names)}
    rates = plan.counters.rates() > 0
    for name, amount in amounts.items():
        column = column_of.get(name)
        if column is not None and plan.open[column] and not rates[column]:
            limits[column] += amount - topped_up.get(name, 0)
            topped_up[name] = amount
    if topped_up == plan.topped_up:
        return plan
    return plan.changed(budgets=limits, topped_up=topped_up)


def _for_catalogue(plan: Plan, models: tuple[str, ...], budgets: Budgets, price: float) -> Plan:
    fresh, limits = counters_of(models, budgets)
    if plan.per_llm and fresh.is_per_llm:
        return plan.for_llms(dict(zip(models, limits.tolist(), strict=True)), price)
    names = plan.models + tuple(name for name in models if name not in plan.models)
    merged = plan.counters.changed(fresh.budgets, names)
    before = len(plan.counters)
    more = len(merged) - before
    is_open = np.array([bool(merged.budgets[b].models) for b in merged.budget_of], dtype=bool)
    new_limits = merged.limits()
    rates = merged.rates() > 0
    new_limits[:before] = np.where(is_open[:before] & ~rates[:before], new_limits[:before], plan.budgets)
    granted = np.hstack([plan.granted, np.zeros((plan.lanes, more), dtype=np.int64)])
    new_values = np.flatnonzero(merged.grouped[before:]) + before
    granted[:, new_values] = plan.first_grants(new_limits[new_values])
    new_models = {name for name in names if name not in plan.models}
    added = [price if key[0] in new_models else plan.price_of_new(key[0]) for key in merged.keys[before:]]
    return plan.changed(
        models=names,
        active=np.array([name in models for name in names]),
        counters=merged,
        open=is_open,
        budgets=new_limits,
        prices=np.concatenate([plan.prices, added]),
        granted=granted,
        target=np.hstack([plan.target, granted[:, before:]]),
    )
