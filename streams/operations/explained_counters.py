"""Counters of an explained query: their prices, what its lane had of each, and which could not pay."""

from __future__ import annotations

from typing import Any

from routing.arrays import IntArray
from routing.budgets.budget import EMPTY, OTHER
from routing.budgets.counters import CounterKey
from routing.budgets.money import to_usd
from routing.policy.plan import Plan
from streams.ledger.reservations import ReservationBatch
from streams.operations.recompute import RecomputedDecision


def unaffordable(plan: Plan, counters: list[dict[str, Any]], llm: int, charge: int) -> list[str]:
    """Return the counters on which an LLM's query could not draw; token budgets are not judged.

    Parameters
    ----------
    plan : Plan
    counters : list of dict
        Of `shown_counters`.
    llm : int
        Position in the plan.
    charge : int
        Picodollars that the query would reserve.
    """
    covers = {
        budget.name: bool(plan.counters.covers[number, llm])
        for number, budget in enumerate(plan.counters.budgets)
    }
    draws = {"usd": float(to_usd(charge)), "queries": 1}
    return [
        one["name"]
        for one in counters
        if covers.get(one["name"], covers.get(one["name"].partition("=")[0]))
        and one["available_before"] is not None
        and one["unit"] in draws
        and one["available_before"] < draws[one["unit"]]
    ]


def own_counters(plan: Plan, recomputed: RecomputedDecision) -> list[CounterKey]:
    """Return the counters of a query: of each budget in the catalogue its only one, or that of its value."""
    values = recomputed.terms.terms.values
    column_of = plan.counters.column_of
    keys: list[CounterKey] = []
    for budget in plan.counters.budgets:
        if not budget.models:
            continue
        value = None if budget.group_by is None else (values.get(budget.group_by) or [EMPTY])[0]
        is_beyond = value is not None and (budget.name, value) not in column_of
        full = (
            is_beyond and plan.counters.known_values[plan.counters.budgets.index(budget)] >= budget.max_values
        )
        keys.append((budget.name, OTHER if full else value))
    return keys


def shown_counters(
    plan: Plan,
    reservations: ReservationBatch | None,
    before: IntArray | None,
    recomputed: RecomputedDecision | None = None,
) -> list[dict[str, Any]]:
    """Return the counters that a query could draw on: name, unit, price, and what the lane had of each.

    Amounts are in USD, queries or tokens; None if the transaction recorded none.

    Parameters
    ----------
    plan : Plan
    reservations : ReservationBatch or None
        Of the query's transaction.
    before : ndarray of int64 or None
        As `available_before`, for the counters of `reservations`.
    recomputed : RecomputedDecision, optional
        Has the values of the query. Without it, all counters of the transaction are returned.
    """
    known = {}
    if reservations is not None and reservations.counters is not None and before is not None:
        known = dict(zip(reservations.counters, before.tolist(), strict=True))
    rows = []
    for key in list(known) if recomputed is None else own_counters(plan, recomputed):
        name, value = key
        amount = known.get(key)
        unit = next((budget.unit for budget in plan.counters.budgets if budget.name == name), "usd")
        column = plan.counters.column_of.get(key)
        rows.append(
            {
                "name": name if value is None else f"{name}={value}",
                "unit": unit,
                "price": plan.price_of_new(name) if column is None else float(plan.prices[column]),
                "available_before": float(to_usd(amount)) if unit == "usd" and amount is not None else amount,
            }
        )
    return rows
