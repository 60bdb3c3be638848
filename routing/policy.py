"""What a lane does with a batch: release, decide, charge. The stream and the simulation both run this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.account import Account
from routing.decision import (
    DEFERRED,
    Exhausted,
    IntArray,
    choose,
    choose_random,
    random_keys,
    scores,
)
from routing.estimators.base import Estimates, FloatArray
from routing.money import to_pico
from routing.plan import Plan


@dataclass(frozen=True)
class Routed:
    """Decisions of one batch and the account after them.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
        Index of the LLM, or `UNSERVED` or `DEFERRED`.
    charge : ndarray of int64, shape [n]
        Picodollars reserved for each query, 0 where none is served.
    score : ndarray of float64, shape [n, M]
        Quality minus price times cost, minus infinity for closed LLMs.
    account : Account
    """

    choice: IntArray
    charge: IntArray
    score: FloatArray
    account: Account


def waits(plan: Plan, warmup: str) -> bool:
    """Queries have to wait: no prices are known yet, and warm-up buffers."""
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
    explore: IntArray | None = None,
) -> Routed:
    """Route a batch of one lane by the plan in force.

    Parameters
    ----------
    account : Account
        The lane's account in any period up to the plan's; an older one is closed by this.
    plan : Plan
    lane : int
        Row of the plan's rights; the overflow lane is `plan.pool`.
    estimates : Estimates
        Of the n queries, [n, M].
    offsets : ndarray of int64, shape [n]
        Their offsets, which seed random routing.
    charge : ndarray of int64, shape [n, M], optional
        Picodollars to reserve, by default the estimated costs.
    seed : int
        Of random routing in warm-up.
    comparable : ndarray of bool, shape [M], optional
        LLMs whose estimates mean something; the others are chosen only where explored.
    explore : ndarray of int64, shape [n], optional
        The LLM that a query shall measure, or negative.

    Returns
    -------
    Routed

    Raises
    ------
    ValueError
        The plan is older than the account.
    """
    account = enter(account, plan)
    granted = plan.granted[lane]
    account = account.released_to(granted, plan.target[lane])
    charge = to_pico(estimates.cost) if charge is None else charge
    open_models = plan.active if comparable is None else plan.active & comparable
    score = np.where(open_models, scores(estimates.quality, estimates.cost, plan.prices), -np.inf)
    if explore is not None:
        _prefer(score, explore, plan.active)
    if plan.learned:
        exhausted = Exhausted.DEFER if plan.overflow and lane != plan.pool else Exhausted.NEXT_BEST
        choice = choose(score, charge, account.available(granted), exhausted)
    else:
        choice = choose_random(
            random_keys(seed, lane, offsets), charge, account.available(granted), open_models
        )
        if plan.overflow and lane != plan.pool:
            choice[choice < 0] = DEFERRED
    served = choice >= 0
    taken = np.where(served, charge[np.arange(len(choice)), np.where(served, choice, 0)], 0)
    return Routed(choice, taken, score, account.routed(choice, charge))


def _prefer(score: FloatArray, explore: IntArray, active: NDArray[np.bool_]) -> None:
    """Put the LLM to be measured above all others; where it cannot pay, the best of them is next."""
    rows = np.flatnonzero(explore >= 0)
    rows = rows[active[explore[rows]]]
    top = score[rows].max(1, initial=0.0)
    score[rows, explore[rows]] = np.where(np.isfinite(top), top, 0.0) + 1.0


def explored(keys: NDArray[np.uint64], share: float, unmeasured: IntArray) -> IntArray:
    """Which queries measure an LLM without a history, and which LLM: by their keys alone, shape [n].

    Examples
    --------
    >>> explored(np.arange(4, dtype=np.uint64), 0.0, np.array([7])).tolist()
    [-1, -1, -1, -1]
    """
    none = np.full(len(keys), -1, dtype=np.int64)
    if not share or not len(unmeasured):
        return none
    # the high bits say whether, the low ones which
    chosen = (keys >> np.uint64(11)) < np.uint64(share * 2**53)
    return np.where(chosen, unmeasured[(keys % np.uint64(len(unmeasured))).astype(np.int64)], none)


def enter(account: Account, plan: Plan) -> Account:
    """The account to charge under this plan: a fresh one when the plan opens a new period."""
    if plan.period < account.period:
        raise ValueError(f"plan: period {plan.period} is older than the account's, {account.period}")
    if plan.period > account.period:
        return Account.fresh(plan.period, len(plan.models))
    return account.widened(len(plan.models))
