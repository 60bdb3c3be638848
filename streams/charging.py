"""What a query reserves on each LLM, by the setting `reserve`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from routing.catalogue import Catalogue, Model
from routing.decision import IntArray
from routing.estimators.base import Estimates
from routing.money import to_pico
from routing.reserve import bound_charges
from streams.bounding import request_tokens
from streams.messages import Query


@dataclass(frozen=True)
class Charges:
    """What n queries would reserve on M LLMs.

    Parameters
    ----------
    pico : ndarray of int64, shape [n, M]
        Picodollars.
    answer_tokens : sequence of int or None, length n
        Tokens of an answer that `pico` pays for; None where it is an estimate, and bounds nothing.
    """

    pico: IntArray
    answer_tokens: Sequence[int | None]


Charger = Callable[[Sequence[Query], Estimates, tuple[str, ...]], Charges]
"""Queries, their estimates [n, M] and the M LLMs, to what they would reserve."""

UNPRICED = 9.0e6
"""USD per million tokens of an LLM without a list price: nothing can be reserved on it."""


def charge_estimates(queries: Sequence[Query], estimates: Estimates, models: tuple[str, ...]) -> Charges:
    """The estimated cost: spending can pass the budget by what answers cost beyond their estimates."""
    return Charges(to_pico(estimates.cost), [None] * len(queries))


def charge_bounds(catalogue: Callable[[], Mapping[str, Model]], default_max_tokens: int) -> Charger:
    """Prompt and `max_tokens` at list price: spending cannot pass the budget.

    Of queries that `streams.bounding.admit_bounded` lets through.

    Parameters
    ----------
    catalogue : callable
        The LLMs by name, as they are in force.
    default_max_tokens : int
        For queries that name none.
    """

    def charge(queries: Sequence[Query], estimates: Estimates, models: tuple[str, ...]) -> Charges:
        known = catalogue()
        inputs = np.array([_price(known[name].input_price) for name in models])
        outputs = np.array([_price(known[name].output_price) for name in models])
        tokens = np.array([request_tokens(query) for query in queries], dtype=np.float64)
        most = [query.max_tokens or default_max_tokens for query in queries]
        return Charges(bound_charges(tokens, most, inputs, outputs, default_max_tokens), most)

    return charge


def lacking_prices(catalogue: Catalogue) -> str | None:
    """Why bounds cannot be reserved on these LLMs; None where each has its list prices."""
    unpriced = [one.name for one in catalogue.models if one.input_price is None or one.output_price is None]
    if not unpriced:
        return None
    return (
        f"reserve: 'bound' needs input_price and output_price of {', '.join(unpriced)}; add them to the "
        "catalogue, or set PORT_RESERVE=estimate"
    )


def _price(price: float | None) -> float:
    return UNPRICED if price is None else price
