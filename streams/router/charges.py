"""Charges: the amount that a query reserves on each LLM, by the setting `reserve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from routing.arrays import IntArray
from routing.budgets.cost_bound import bound_charges
from routing.budgets.cost_quantile import CostQuantile
from routing.budgets.money import MAX_USD, to_pico
from routing.estimators.base import Estimates
from routing.policy.list_prices import Listed
from routing.policy.plan import Plan
from streams.messages.query import Query
from streams.messages.rejection import RejectedMessage
from streams.router.admission import max_prompt_tokens, validate_bounded
from streams.router.batch import IntakeBatch


@dataclass(frozen=True)
class Charges:
    """Charges of n queries on M LLMs.

    Parameters
    ----------
    pico : ndarray of int64, shape [n, M]
        Picodollars.
    answer_tokens : sequence of int or None, length n
        Tokens of an answer that `pico` pays for; None if it is an estimate, which bounds nothing.
    """

    pico: IntArray
    answer_tokens: Sequence[int | None]


UNPRICED_USD_PER_MILLION = 9.0e6
"""Price of an LLM without a list price, in USD per million tokens: no grant can pay it."""

Charger = Callable[[Sequence[Query], Estimates, Plan], Charges]
"""Computes charges from queries, their estimates [n, M] and the plan of the M LLMs."""


def charge_batch(charger: Charger, arrivals: IntakeBatch, estimates: Estimates, plan: Plan) -> Charges:
    """Return the charges of a batch: those that deferred queries carry, or the charger's.

    A deferred query keeps the charge under which it was deferred. The plan may have more or fewer LLMs since.
    """
    if arrivals.charge is None:
        return charger(arrivals.queries, estimates, plan)
    return Charges(pad_deferred(arrivals.charge, len(plan.models)), arrivals.answer_tokens)


def pad_deferred(charge: IntArray, models: int) -> IntArray:
    """Return the charges of deferred queries with `models` columns: cut, or filled up with zeros."""
    missing = max(0, models - charge.shape[1])
    return np.pad(charge[:, :models], ((0, 0), (0, missing)))


def charge_estimates(queries: Sequence[Query], estimates: Estimates, plan: Plan) -> Charges:
    """Charge the estimated cost. Spending exceeds the budget if answers cost more than estimated."""
    return Charges(to_pico(estimates.cost), [None] * len(queries))


def charge_bounds(
    prices: Callable[[Plan], Listed],
    default_max_tokens: int,
    fee: Callable[[str], float] = lambda name: 0.0,
) -> Charger:
    """Return a charger of prompt and `max_tokens` at list price: spending stays within the budget.

    It holds for queries that `streams.router.admission.validate_bounded` accepts.

    Parameters
    ----------
    prices : callable
        List prices by LLM under a plan. An LLM without a price is never chosen. A plan keeps LLMs that were
        removed from the catalogue until its period ends.
    default_max_tokens : int
        For queries without `max_tokens`.
    fee : callable
        Fee of a request to an LLM in USD. A bounded query is asked once.
    """

    def charge(queries: Sequence[Query], estimates: Estimates, plan: Plan) -> Charges:
        listed = prices(plan)
        pairs = [listed.get(name, (None, None)) for name in plan.models]
        inputs = np.array([_price(pair[0]) for pair in pairs])
        outputs = np.array([_price(pair[1]) for pair in pairs])
        tokens = np.array([max_prompt_tokens(query) for query in queries], dtype=np.float64)
        max_tokens = [query.max_tokens or default_max_tokens for query in queries]
        pico = bound_charges(tokens, max_tokens, inputs, outputs, default_max_tokens)
        return Charges(pico + to_pico(np.array([fee(name) for name in plan.models])), max_tokens)

    return charge


def charge_quantiles(
    quantile: CostQuantile,
    prices: Callable[[Plan], Listed],
    fee: Callable[[str], float] = lambda name: 0.0,
) -> Charger:
    """Return a charger of a quantile of the cost, at most the bound of queries that have one.

    A query has a bound if it carries `max_tokens` and `streams.router.admission.validate_bounded` accepts it,
    on an LLM with list prices.

    Parameters
    ----------
    quantile : CostQuantile
        The plan corrects it by outcomes.
    prices, fee
        As for `charge_bounds`.
    """
    bounds = charge_bounds(prices, 1, fee)

    def charge(queries: Sequence[Query], estimates: Estimates, plan: Plan) -> Charges:
        usd = estimates.cost * quantile.factors(plan.models, plan.reserve_offsets)
        pico = to_pico(np.minimum(usd, MAX_USD))
        bounded = [row for row, query in enumerate(queries) if query.max_tokens and _is_bounded(query)]
        if bounded:
            bound_pico = bounds([queries[row] for row in bounded], estimates, plan).pico
            pico[bounded] = np.minimum(pico[bounded], bound_pico)
        return Charges(pico, [None] * len(queries))

    return charge


@dataclass(frozen=True)
class AnswerLimit:
    """The limit of an answer whose reservation is a percentile of its cost.

    Parameters
    ----------
    reserve : str
        The percentile, such as "p95".
    quantile : CostQuantile
    prices : callable
        List prices by LLM under a plan.
    """

    reserve: str
    quantile: CostQuantile
    prices: Callable[[Plan], Listed]

    def tokens(self, models: Sequence[str], usd: Sequence[float], plan: Plan) -> list[int | None]:
        """Return the most tokens of each answer; see `CostQuantile.answer_limit`.

        Parameters
        ----------
        models : sequence of str, length n
            LLM of each query.
        usd : sequence of float, length n
            Its reservation.
        plan : Plan
        """
        listed = self.prices(plan)
        outputs = {name: prices[1] for name, prices in listed.items()}
        return [
            self.quantile.answer_limit(name, amount, outputs.get(name))
            for name, amount in zip(models, usd, strict=True)
        ]


def _is_bounded(query: Query) -> bool:
    try:
        validate_bounded(query)
    except RejectedMessage:
        return False
    return True


def _price(price: float | None) -> float:
    return UNPRICED_USD_PER_MILLION if price is None else price
