"""Routing of one batch of one lane: release, decide, charge; the stream and the simulation run this."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.money import to_pico
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.account import Account
from routing.policy.decision import (
    BUDGET_EXHAUSTED,
    DEFERRED,
    NO_ELIGIBLE_LLM,
    NOT_WORTH_IT,
    SERVED,
    TOLERANCE,
    UNSERVED,
    Exhausted,
    LlmPurse,
    Purse,
    choose_from,
    choose_random_from,
    random_keys,
    scores,
)
from routing.policy.draws import CounterPurse, Draws
from routing.policy.exploration import Exploration
from routing.policy.plan import Plan
from routing.policy.propensity import payable_in_turn, propensity, random_propensity

NO_TERMS = QueryTerms()


@dataclass(frozen=True)
class RoutingDecisions:
    """Decisions of one batch, and the account after them.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
        Index of the LLM, or `UNSERVED` or `DEFERRED`.
    charge : ndarray of int64, shape [n]
        Picodollars reserved for each query; 0 for a query that is not served.
    score : ndarray of float64, shape [n, M]
        Quality minus price times cost, minus infinity for LLMs that are not chosen by score.
    account : Account
    why : ndarray of int64, shape [n]
        Reason of each query without an LLM: `NOT_WORTH_IT`, `BUDGET_EXHAUSTED` or `NO_ELIGIBLE_LLM` of
        `routing.policy.decision`; `SERVED` for the others, deferred ones included.
    exhausted : ndarray of int64, shape [n]
        Column of the counter that could not pay, negative for none.
    columns : ndarray of int64, shape [n, B], optional
        Column, in `account.counters`, that each query drew on in each budget, negative for none. None for one
        budget per LLM.
    tokens : ndarray of int64, shape [n], optional
        Tokens reserved for each query; None for one budget per LLM.
    probability : ndarray of float64, shape [n], optional
        Probability of each choice. None: nothing was random.
    """

    choice: IntArray
    charge: IntArray
    score: FloatArray
    account: Account
    why: IntArray
    exhausted: IntArray
    columns: IntArray | None = None
    tokens: IntArray | None = None
    probability: FloatArray | None = None


def must_wait_for_prices(plan: Plan, warmup: str) -> bool:
    """Return whether queries wait: no prices are known yet, and warm-up buffers."""
    return not plan.learned and warmup == "buffer"


def route(
    account: Account,
    plan: Plan,
    lane: int,
    estimates: Estimates,
    offsets: IntArray,
    *,
    charge: IntArray | None = None,
    seed: int = 0,
    comparable: NDArray[np.bool_] | None = None,
    explore: Exploration | None = None,
    terms: QueryTerms = NO_TERMS,
) -> RoutingDecisions:
    """Route a batch of one lane by the plan in force.

    Parameters
    ----------
    account : Account
        The lane's account in any period up to the plan's; a new period replaces it.
    plan : Plan
    lane : int
        Row of the plan's grants; the overflow lane is `plan.pool`.
    estimates : Estimates
        Of the n queries, [n, M].
    offsets : ndarray of int64, shape [n]
        Their offsets, which seed random routing.
    charge : ndarray of int64, shape [n, M], optional
        Picodollars to reserve, by default the estimated costs.
    seed : int
        Of random routing in warm-up.
    comparable : ndarray of bool, shape [M], optional
        LLMs with usable estimates; the others are chosen by exploration only.
    explore : Exploration, optional
        LLMs that queries explore.
    terms : QueryTerms
        Weights, eligible LLMs, tokens and values of the n queries.

    Returns
    -------
    RoutingDecisions

    Raises
    ------
    ValueError
        The plan is older than the account.
    """
    account = enter_period(account, plan)
    charge = to_pico(estimates.cost) if charge is None else charge
    quality = estimates.quality if terms.weight is None else estimates.quality * terms.weight[:, None]
    terms = terms.widened(len(plan.models))
    draws: Draws | None = None
    if account.counters is None:
        columns = plan.lane_columns(lane, None)
        score = scores(quality, estimates.cost, columns.prices)
    else:
        draws = Draws.of(account.counters, terms, charge)
        account = account.aligned(draws.counters)
        columns = plan.lane_columns(lane, account.counters)
        score = quality - draws.costs(columns.prices, estimates.cost)
    account = account.released_to(columns.granted, columns.target)
    available = account.available(columns.granted)

    def make_purse() -> Purse:
        if draws is None:
            return LlmPurse(charge, available)
        return CounterPurse(draws, available, columns.pooled)

    open_models = plan.active if comparable is None else plan.active & comparable
    if terms.eligible is not None:
        open_models = open_models & terms.eligible
    score = np.where(open_models, score, -np.inf)
    preferred, share, probability = score, None, None
    if explore is not None:
        active = np.broadcast_to(
            plan.active if terms.eligible is None else plan.active & terms.eligible, score.shape
        )
        preferred, share = (
            _prefer_explored(score, explore.model, active),
            np.where(active, explore.share, 0.0),
        )
    if plan.learned:
        exhausted = Exhausted.DEFER if plan.overflow and lane != plan.pool else Exhausted.NEXT_BEST
        choice = choose_from(preferred, make_purse(), exhausted)
        if share is not None and share.any():
            able, possible = payable_in_turn(make_purse, choice)
            possible = possible if exhausted is Exhausted.DEFER else able
            probability = propensity(choice, score, able, share, possible)
    else:
        open_to_each = np.broadcast_to(open_models, score.shape)
        choice = choose_random_from(random_keys(seed, lane, offsets), make_purse(), open_to_each)
        probability = random_propensity(payable_in_turn(make_purse, choice)[0] & open_to_each)
        if plan.overflow and lane != plan.pool:
            # The overflow lane cannot help a query that no LLM may answer.
            choice[(choice < 0) & (open_to_each.any(1) | (terms.eligible is None))] = DEFERRED
    routed = _charge_choices(account, choice, charge, preferred, draws, columns.granted, columns.limits)
    return replace(routed, score=score, probability=probability)


def _charge_choices(
    account: Account,
    choice: IntArray,
    charge: IntArray,
    score: FloatArray,
    draws: Draws | None,
    granted: IntArray,
    limits: IntArray,
) -> RoutingDecisions:
    """Charge the choices and explain the queries that are not served."""
    served = choice >= 0
    rows = np.arange(len(choice))
    model = np.where(served, choice, 0)
    charged = np.where(served, charge[rows, model], 0)
    if draws is None:
        account = account.with_charges(choice, charge)
        why, short = _reasons_per_llm(choice, score, charge, account.available(granted), limits)
        return RoutingDecisions(choice, charged, score, account, why, short)
    columns, amounts = draws.of_choice(choice)
    grouped = draws.columns[:, draws.counters.grouped_budgets]
    account = account.with_charges(choice, charge, columns, amounts, grouped)
    why, short = draws.reasons(choice, score, account.available(granted), limits)
    tokens = np.where(served, draws.tokens[rows, model], 0)
    return RoutingDecisions(choice, charged, score, account, why, short, columns, tokens)


def _reasons_per_llm(
    choice: IntArray, score: FloatArray, charge: IntArray, available: IntArray, limits: IntArray
) -> tuple[IntArray, IntArray]:
    """Return why each query is not served, and the LLM whose budget is spent; see `Draws.reasons`."""
    why, short = np.full(len(choice), SERVED), np.full(len(choice), -1)
    rows = np.flatnonzero(choice == UNSERVED)
    if len(rows):
        best = score[rows].argmax(1)
        top = score[rows, best]
        spent = (top > TOLERANCE) & (charge[rows, best] > available[best]) | (limits[best] <= 0)
        spent &= ~np.isneginf(top)
        why[rows] = np.where(np.isneginf(top), NO_ELIGIBLE_LLM, NOT_WORTH_IT)
        why[rows] = np.where(spent | (top > TOLERANCE), BUDGET_EXHAUSTED, why[rows])
        short[rows] = np.where(spent, best, -1)
    return why, short


def _prefer_explored(score: FloatArray, explore: IntArray, active: NDArray[np.bool_]) -> FloatArray:
    """Return scores with the explored LLM above all others; if it cannot pay, the best other LLM is next.

    `active` are the LLMs that may answer, of shape [n, M].
    """
    score = score.copy()
    rows = np.flatnonzero(explore >= 0)
    rows = rows[active[rows, explore[rows]]]
    top = score[rows].max(1, initial=0.0)
    score[rows, explore[rows]] = np.where(np.isfinite(top), top, 0.0) + 1.0
    return score


def enter_period(account: Account, plan: Plan) -> Account:
    """Return the account to charge under this plan; an empty one if the plan begins a new period."""
    if plan.period < account.period:
        raise ValueError(f"plan: period {plan.period} is older than the account's, {account.period}")
    counters = None if plan.per_llm else plan.counters
    if plan.period > account.period:
        return Account.fresh(plan.period, len(plan.models), counters)
    account = account.widened(len(plan.models))
    if counters is None:
        return account
    if account.counters is None:
        # The plan of the same period got other budgets: LLMs' budgets are counters by their names.
        account = account.with_counters_of(plan.models)
    return account.aligned(counters)
