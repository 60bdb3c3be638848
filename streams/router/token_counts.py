"""Tokens that a query draws on token budgets: its prompt and the answer that is expected or paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from routing.arrays import IntArray
from routing.estimators.base import Estimates
from routing.policy.list_prices import Listed
from routing.policy.plan import Plan
from streams.messages.query import Query
from streams.messages.request_needs import answer_limit
from streams.router.admission import max_prompt_tokens


class TokenCounter(Protocol):
    """Counts the tokens that queries draw."""

    def __call__(
        self, queries: Sequence[Query], estimates: Estimates, prompts: IntArray, plan: Plan
    ) -> IntArray:
        """Return tokens, [n, M], from estimates [n, M] and prompt tokens [n]."""
        ...


def bounded_tokens(default_max_tokens: int) -> TokenCounter:
    """Return a counter of upper bounds, for `reserve=bound`."""

    def count(queries: Sequence[Query], estimates: Estimates, prompts: IntArray, plan: Plan) -> IntArray:
        tokens = [max_prompt_tokens(query) + (query.max_tokens or default_max_tokens) for query in queries]
        return np.repeat(np.array(tokens, dtype=np.int64)[:, None], len(plan.models), axis=1)

    return count


def expected_tokens(prices: Callable[[Plan], Listed], default_max_tokens: int) -> TokenCounter:
    """Return a counter of expected tokens: the answer's follow from the estimated cost and the list prices.

    Parameters
    ----------
    prices : callable
        List prices by LLM under a plan.
    default_max_tokens : int
        Answer tokens on an LLM without an output price, and of a query without a limit of its own.
    """

    def count(queries: Sequence[Query], estimates: Estimates, prompts: IntArray, plan: Plan) -> IntArray:
        listed = prices(plan)
        pairs = [listed.get(name, (None, None)) for name in plan.models]
        inputs = np.array([pair[0] or 0.0 for pair in pairs])
        outputs = np.array([pair[1] or 0.0 for pair in pairs])
        limits = np.array([answer_limit(query) or default_max_tokens for query in queries], dtype=np.float64)
        paid = np.maximum(estimates.cost * 1e6 - prompts[:, None] * inputs, 0.0)
        answers = np.where(outputs > 0, paid / np.where(outputs > 0, outputs, 1.0), limits[:, None])
        expected = np.minimum(np.maximum(answers, 1.0), limits[:, None])
        return np.asarray(prompts[:, None] + np.ceil(expected), dtype=np.int64)

    return count
