"""Terms of a batch: weights, eligible LLMs, tokens and values of groups, and why an LLM is not eligible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from routing.arrays import IntArray
from routing.budgets.allow import AllowRule
from routing.budgets.budget import EMPTY, matches, value_of
from routing.budgets.model import CAPABILITIES, Model
from routing.budgets.money import to_pico
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.plan import Plan
from streams.messages.group_value import field_value
from streams.messages.query import Query
from streams.messages.record import Record
from streams.messages.request_needs import (
    answer_limit,
    estimated_prompt_tokens,
    needed_capabilities,
)

MAX_CACHED_PATTERNS = 1024
UNLIMITED_TOKENS = 2**62


@dataclass
class BatchTerms:
    """Terms of the n queries of a batch.

    Parameters
    ----------
    terms : QueryTerms
    models : tuple of str, length M
    rules : list of (str, ndarray)
        Name of each rule that excludes an LLM, and the LLMs that it allows, [n, M].
    """

    terms: QueryTerms
    models: tuple[str, ...]
    rules: list[tuple[str, NDArray[np.bool_]]] = field(default_factory=list)

    def excluded(self, row: int) -> dict[str, str]:
        """Return the first rule that excludes each LLM from a query."""
        rules: dict[str, str] = {}
        for name, allowed in self.rules:
            for i in np.flatnonzero(~allowed[row]):
                rules.setdefault(self.models[i], name)
        return rules


@dataclass(frozen=True)
class LLMAbilities:
    """Abilities of the LLMs of a plan.

    Parameters
    ----------
    models : tuple of str, length M
    windows : ndarray of int64, shape [M]
        Context windows in tokens.
    able : ndarray of bool, shape [M, C]
        By capability, in the order of `CAPABILITIES`; unknown capabilities count as present.
    allow : tuple of AllowRule
    """

    models: tuple[str, ...]
    windows: IntArray
    able: NDArray[np.bool_]
    allow: tuple[AllowRule, ...]

    @classmethod
    def of(
        cls, names: tuple[str, ...], models: Mapping[str, Model], allow: tuple[AllowRule, ...]
    ) -> LLMAbilities:
        """Return the abilities of a plan's LLMs; an LLM that no catalogue has is unlimited."""
        known = [models.get(name, Model(name)) for name in names]
        windows = [UNLIMITED_TOKENS if one.context_window is None else one.context_window for one in known]
        able = [
            [one.capabilities is None or name in one.capabilities for name in CAPABILITIES] for one in known
        ]
        return cls(
            names,
            np.array(windows, dtype=np.int64),
            np.array(able, dtype=bool).reshape(len(names), len(CAPABILITIES)),
            allow,
        )


TokenCounts = Callable[..., IntArray]
"""Tokens that queries draw on token budgets, [n, M]: of queries, estimates [n, M] and prompt tokens [n]."""


def batch_terms(
    queries: Sequence[Query],
    records: Sequence[Record],
    plan: Plan,
    abilities: LLMAbilities,
    estimates: Estimates,
    charge: IntArray,
    count_tokens: TokenCounts,
    tried: Sequence[Collection[str]] | None = None,
    expired: NDArray[np.bool_] | None = None,
) -> BatchTerms:
    """Return the terms of a batch under a plan.

    Parameters
    ----------
    queries, records : sequence, length n
    plan : Plan
        Its budgets say which fields are values of groups, and whether tokens are counted.
    abilities : LLMAbilities
        Of the plan's LLMs.
    estimates : Estimates
        [n, M], in the plan's order.
    charge : ndarray of int64, shape [n, M]
        Picodollars.
    count_tokens : callable
        Called if a budget limits tokens.
    tried : sequence of collection of str, length n, optional
        LLMs that returned each query, which are not eligible for it.
    expired : ndarray of bool, shape [n], optional
        Queries whose deadline has passed, for which no LLM is eligible.
    """
    n = len(queries)
    rules: list[tuple[str, NDArray[np.bool_]]] = []
    limits = [query.limits for query in queries]
    weights = np.array([one.weight for one in limits], dtype=np.float64)
    patterns = [one.models for one in limits]
    if any(pattern is not None for pattern in patterns):
        rules.append(("models", np.array([_allowed(pattern, plan.models) for pattern in patterns])))
    if expired is not None:
        rules.append(("deadline", np.repeat(~expired[:, None], len(plan.models), axis=1)))
    if tried is not None and any(tried):
        rules.append(("tried", np.array([[name not in one for name in plan.models] for one in tried])))
    for rule in abilities.allow:
        values = [
            value_of(field_value(q, r.headers, rule.field)) for q, r in zip(queries, records, strict=True)
        ]
        if any(value in rule.values for value in values):
            rules.append((f"allow {rule.field}", np.array([rule.allowed(v, plan.models) for v in values])))
    if not abilities.able.all():
        rules += _capability_rules(queries, abilities)
    rules += _window_rules(queries, abilities)
    largest = [one.max_cost_usd for one in limits]
    if any(usd is not None for usd in largest):
        pico = to_pico(np.array([np.inf if usd is None else usd for usd in largest]).clip(max=1e6))
        rules.append(("max_cost_usd", charge <= pico[:, None]))
    smallest = np.array([one.min_quality or 0.0 for one in limits])
    if smallest.any():
        rules.append(("min_quality", estimates.quality >= smallest[:, None]))
    rules = [(name, allowed) for name, allowed in rules if not allowed.all()]
    eligible = None
    if rules:
        eligible = np.logical_and.reduce(
            [np.broadcast_to(allowed, (n, len(plan.models))) for _, allowed in rules]
        )
    tokens = None
    if any(budget.unit == "tokens" for budget in plan.counters.budgets):
        prompts = np.fromiter((estimated_prompt_tokens(query) for query in queries), np.int64, n)
        tokens = count_tokens(queries, estimates, prompts)
    terms = QueryTerms(
        weight=None if (weights == 1).all() else weights,
        eligible=eligible,
        tokens=tokens,
        values={name: group_values(queries, records, name) for name in plan.counters.fields},
    )
    return BatchTerms(terms, plan.models, rules)


def group_values(queries: Sequence[Query], records: Sequence[Record], name: str) -> list[str]:
    """Return each query's value of a field; the empty value where it is missing or not usable."""
    pairs = zip(queries, records, strict=True)
    return [value_of(field_value(query, record.headers, name)) or EMPTY for query, record in pairs]


@lru_cache(MAX_CACHED_PATTERNS)
def _allowed(patterns: tuple[str, ...] | None, models: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.array([patterns is None or matches(name, patterns) for name in models], dtype=bool)


def _capability_rules(
    queries: Sequence[Query], abilities: LLMAbilities
) -> list[tuple[str, NDArray[np.bool_]]]:
    needs = [needed_capabilities(query) for query in queries]
    rules = []
    for number, capability in enumerate(CAPABILITIES):
        needed = np.array([capability in one for one in needs], dtype=bool)
        if needed.any():
            rules.append((f"capability {capability}", ~needed[:, None] | abilities.able[:, number]))
    return rules


def _window_rules(queries: Sequence[Query], abilities: LLMAbilities) -> list[tuple[str, NDArray[np.bool_]]]:
    smallest = int(abilities.windows.min(initial=UNLIMITED_TOKENS))
    if smallest == UNLIMITED_TOKENS:
        return []
    # no text has more tokens than bytes, so most prompts need no count; an image has few bytes in its address
    answers = np.fromiter(((answer_limit(query) or 0) for query in queries), np.int64, len(queries))
    longest = np.fromiter((len(query.value) for query in queries), np.int64, len(queries)) + answers
    chats = np.fromiter((query.fields.get("messages") is not None for query in queries), bool, len(queries))
    rows = np.flatnonzero((longest > smallest) | chats)
    if not rows.size:
        return []
    tokens = np.zeros(len(queries), dtype=np.int64)
    tokens[rows] = [estimated_prompt_tokens(queries[row]) for row in rows.tolist()]
    return [("context_window", (tokens + answers)[:, None] <= abilities.windows)]
