"""LLMs that no history covers: which queries measure them, and what their outcomes say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from routing.alignment import Alignment
from routing.catalogue import Model
from routing.decision import IntArray, random_keys
from routing.policy import explored
from streams.intake import Arrivals
from streams.ledger import LedgerRecord
from streams.settings import Settings

PROMPT_TOKENS, ANSWER_TOKENS = 500, 300
"""A typical query, for the cost of an LLM of which nothing is known but its list price."""


def to_explore(
    settings: Settings,
    alignment: Alignment,
    arrivals: Arrivals,
    lane: int,
    offsets: IntArray,
    charge: IntArray,
) -> IntArray | None:
    """The LLM that each query shall measure, or negative, shape [n]; None where nothing is to be measured.

    A query that was deferred measures on the overflow lane what it would have measured on its own: an LLM of
    small budget lives in the pool alone. Not one that was added since: what it would reserve is not known.

    Parameters
    ----------
    settings : Settings
    alignment : Alignment
        Of the plan in force.
    arrivals : Arrivals
        The n queries.
    lane : int
    offsets : ndarray of int64, shape [n]
    charge : ndarray of int64, shape [n, M]
        Picodollars.
    """
    if not settings.exploration or not alignment.unmeasured.size:
        return None
    seed = settings.seed + 1
    if arrivals.sources is None:
        return explored(random_keys(seed, lane, offsets), settings.exploration, alignment.unmeasured)
    own = [random_keys(seed, partition, np.array([offset]))[0] for partition, offset in arrivals.sources]
    chosen = explored(np.array(own, dtype=np.uint64), settings.exploration, alignment.unmeasured)
    known = charge[np.arange(len(chosen)), np.maximum(chosen, 0)] > 0
    return np.where(known, chosen, -1)


def measured(
    names: Sequence[str], models: Mapping[str, Model], ledgers: Mapping[int, LedgerRecord]
) -> dict[str, list[float]]:
    """Answers with a quality, their mean quality and mean cost (USD a query) of each LLM.

    Parameters
    ----------
    names : sequence of str
        LLMs without a history.
    models : mapping
        The catalogue by name.
    ledgers : mapping of int to LedgerRecord
        All lanes'.

    Returns
    -------
    dict of str to list
        As `Plan.measured`.
    """
    found = {}
    for name in names:
        answers = quality = reported = cost = settled = 0.0
        for ledger in ledgers.values():
            if (sums := ledger.reported.get(name)) is not None:
                answers, quality, reported = answers + sums[0], quality + sums[1], reported + sums[3]
            if name in ledger.models:
                i = ledger.models.index(name)
                for account in (ledger.account, ledger.closed):
                    if account is not None and i < len(account.settled):
                        cost += float(account.settled[i]) / 1e12
                        settled += float(account.settlements[i])
        # what was settled lately; after a pause of two periods what was ever reported; else a guess
        ever = reported / answers if answers else list_cost(models.get(name))
        mean = cost / settled if settled else ever
        found[name] = [answers, quality / answers if answers else 0.0, mean]
    return found


def list_cost(model: Model | None) -> float:
    """USD of a typical query at list price; 0.01 USD where there is none."""
    if model is None or model.input_price is None or model.output_price is None:
        return 0.01
    return (PROMPT_TOKENS * model.input_price + ANSWER_TOKENS * model.output_price) / 1e6
