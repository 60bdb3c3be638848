"""Exploration: the queries that try another LLM, to measure it or to learn from its answers."""

from __future__ import annotations

import numpy as np

from routing.arrays import IntArray
from routing.budgets.terms import QueryTerms
from routing.policy.alignment import Alignment
from routing.policy.decision import random_keys
from routing.policy.exploration import Exploration, affordable_shares, equal_shares
from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.router.batch import IntakeBatch


def choose_explorations(
    settings: Settings,
    plan: Plan,
    alignment: Alignment,
    arrivals: IntakeBatch,
    lane: int,
    offsets: IntArray,
    charge: IntArray,
    terms: QueryTerms,
) -> Exploration | None:
    """Return the LLMs that queries explore; None without exploration.

    Without an exploration budget, these are the LLMs without a history. With one, they are all open LLMs, as
    far as the budget goes. A deferred query explores the same LLM as on its own lane, because a small budget
    may be in the pool only. It does not explore an LLM that was added since: its charge is unknown.

    Parameters
    ----------
    settings : Settings
    plan : Plan
        In force.
    alignment : Alignment
        Of the plan.
    arrivals : IntakeBatch
        The n queries.
    lane : int
    offsets : ndarray of int64, shape [n]
    charge : ndarray of int64, shape [n, M]
        Picodollars.
    terms : QueryTerms
        Of the n queries.
    """
    share, budget_share = settings.exploration, settings.exploration_budget
    if not share or not (budget_share or alignment.unmeasured.size):
        return None
    if budget_share:
        shares = affordable_shares(plan, lane, charge, terms, share, budget_share)
    else:
        shares = equal_shares(len(charge), charge.shape[1], alignment.unmeasured, share)
    seed = settings.seed + 1
    if arrivals.sources is None:
        return Exploration.draw(random_keys(seed, lane, offsets), shares)
    shares = np.where(charge > 0, shares, 0.0)
    keys = [random_keys(seed, partition, np.array([offset]))[0] for partition, offset in arrivals.sources]
    return Exploration.draw(np.array(keys, dtype=np.uint64), shares)
