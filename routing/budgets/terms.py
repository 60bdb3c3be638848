"""Terms of queries: weights, eligible LLMs, tokens and values of the fields that budgets are grouped by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.budget import EMPTY


@dataclass(frozen=True)
class QueryTerms:
    """Terms of n queries; a missing part means the same for all of them.

    Parameters
    ----------
    weight : ndarray of float64, shape [n], optional
        How much the quality of each query counts; 1 by default.
    eligible : ndarray of bool, shape [n, M], optional
        LLMs that may answer each query; all by default.
    tokens : ndarray of int64, shape [n, M], optional
        Tokens that each query draws on token budgets; 0 by default.
    values : mapping of str to sequence of str, length n
        Values by the field of `group_by`; `EMPTY` by default.
    """

    weight: FloatArray | None = None
    eligible: NDArray[np.bool_] | None = None
    tokens: IntArray | None = None
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """True if no part is given."""
        return self.weight is None and self.eligible is None and self.tokens is None and not self.values

    def rows(self, index: slice | NDArray[np.intp]) -> QueryTerms:
        """Return the terms of some of the queries."""
        if self.empty:
            return self
        if isinstance(index, slice):
            values: dict[str, Sequence[str]] = {name: column[index] for name, column in self.values.items()}
        else:
            values = {name: [column[int(j)] for j in index] for name, column in self.values.items()}
        return QueryTerms(
            None if self.weight is None else self.weight[index],
            None if self.eligible is None else self.eligible[index],
            None if self.tokens is None else self.tokens[index],
            values,
        )

    def widened(self, models: int) -> QueryTerms:
        """Return the terms for M LLMs; new ones, at the end, are eligible and draw no tokens."""
        eligible, tokens = self.eligible, self.tokens
        if eligible is not None and eligible.shape[1] != models:
            more = max(0, models - eligible.shape[1])
            eligible = np.pad(eligible[:, :models], ((0, 0), (0, more)), constant_values=True)
        if tokens is not None and tokens.shape[1] != models:
            more = max(0, models - tokens.shape[1])
            tokens = np.pad(tokens[:, :models], ((0, 0), (0, more)))
        return QueryTerms(self.weight, eligible, tokens, self.values)


def concatenate(parts: Sequence[tuple[int, QueryTerms]], models: int) -> QueryTerms:
    """Return the terms of several batches one after the other.

    Parameters
    ----------
    parts : sequence of (int, QueryTerms)
        Number of queries and terms of each batch.
    models : int
        M.

    Examples
    --------
    >>> heavy = QueryTerms(weight=np.array([2.0]))
    >>> concatenate([(1, heavy), (2, QueryTerms())], 1).weight.tolist()
    [2.0, 1.0, 1.0]
    """
    if all(terms.empty for _, terms in parts):
        return QueryTerms()
    wide = [(count, terms.widened(models)) for count, terms in parts]
    weight = eligible = tokens = None
    if any(terms.weight is not None for _, terms in wide):
        weight = np.concatenate([np.ones(n) if t.weight is None else t.weight for n, t in wide])
    if any(terms.eligible is not None for _, terms in wide):
        eligible = np.concatenate(
            [np.ones((n, models), dtype=bool) if t.eligible is None else t.eligible for n, t in wide]
        )
    if any(terms.tokens is not None for _, terms in wide):
        tokens = np.concatenate(
            [np.zeros((n, models), dtype=np.int64) if t.tokens is None else t.tokens for n, t in wide]
        )
    names = dict.fromkeys(name for _, terms in wide for name in terms.values)
    values: dict[str, Sequence[str]] = {
        name: [value for n, t in wide for value in t.values.get(name, [EMPTY] * n)] for name in names
    }
    return QueryTerms(weight, eligible, tokens, values)
