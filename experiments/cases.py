"""Splits of a data set into history and test queries, and the cases that policies run on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from routing.accounting import SimulationResult, account_for, account_for_counters
from routing.arrays import FloatArray, IntArray
from routing.budgets.budget import Budget
from routing.budgets.catalogue import TOTAL
from routing.budgets.counters import Counters
from routing.budgets.splits import SHARED, split_budget, total_budget
from routing.budgets.terms import QueryTerms
from routing.datasets.split import split_rows
from routing.embedding.query_batch import QueryBatch
from routing.embedding.text_features import text_features
from routing.estimators.base import Estimates
from routing.history.history import EmbeddedHistory, History
from routing.history.storage import write_atomically

GROUP_SEED = 7
"""Seed, added to the split's, that draws the group of each query."""


@runtime_checkable
class EstimateSource(Protocol):
    """Source of a policy's estimates."""

    @property
    def key(self) -> str:
        """Name of the source with all its settings; the key under which its estimates are cached."""
        ...

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """Return estimates of the test queries, and leave-one-out estimates of the history if available."""
        ...


@dataclass(eq=False)
class Split:
    """History and test set of one seed, with all estimates made so far.

    Parameters
    ----------
    data : History
        The whole data set.
    embeddings : ndarray of float32, shape [rows, d]
        Unit embeddings of its texts.
    embedder : str
        Identity of the embedder.
    test, past : ndarray of int
        Rows of the test set in order of arrival, and of the history.
    seed : int
        Seed of the permutation.
    cache : path, optional
        Folder in which slow estimates are cached between runs.
    """

    data: History
    embeddings: NDArray[np.float32]
    embedder: str
    test: IntArray
    past: IntArray
    seed: int
    cache: Path | None = None
    _estimates: dict[str, tuple[Estimates, Estimates | None]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        data: History,
        embeddings: NDArray[np.float32],
        embedder: str,
        queries: int,
        seed: int,
        history: int | None = None,
        cache: Path | None = None,
    ) -> Split:
        """Split a data set by `routing.datasets.split.split_rows`.

        Parameters
        ----------
        queries : int
            N, length of the test set.
        history : int, optional
            Rows of the history that are kept; all by default.

        Raises
        ------
        ValueError
            No row is left for the history, or fewer than requested.
        """
        test, past = split_rows(len(data), queries, seed)
        remaining = len(past)
        if history is not None and not 0 < history <= remaining:
            raise ValueError(f"history: {history} must be 1 to {remaining}, the rows outside the test set")
        return cls(data, embeddings, embedder, test, past[:history], seed, cache)

    @cached_property
    def history(self) -> EmbeddedHistory:
        """The embedded history."""
        return EmbeddedHistory(self.data.select(self.past), self.embeddings[self.past], self.embedder)

    @cached_property
    def features(self) -> FloatArray:
        """Text features of all rows, [rows, 38]."""
        return text_features(self.data.prompts)

    @property
    def texts(self) -> Sequence[str]:
        """Texts of the test queries, as an embedder receives them."""
        return [self.data.texts[i] for i in self.test]

    def batch(self, embeddings: NDArray[np.float32] | None = None) -> QueryBatch:
        """Return the test queries, with the data set's embeddings unless others are given."""
        vectors = self.embeddings[self.test] if embeddings is None else embeddings
        return QueryBatch([self.data.prompts[i] for i in self.test], vectors, self.features[self.test])

    def estimates(self, source: EstimateSource) -> tuple[Estimates, Estimates | None]:
        """Return a source's estimates; make them only if neither memory nor the cache has them."""
        if source.key not in self._estimates:
            path = self._path(source.key)
            if path is not None and path.exists():
                self._estimates[source.key] = _read(path)
            else:
                self._estimates[source.key] = estimates = source.make(self)
                if path is not None:
                    _write(path, *estimates)
        return self._estimates[source.key]

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.sha256(self.data.digest().encode())
        hasher.update(np.ascontiguousarray(self.embeddings).tobytes())
        # Hash the length, too: two cuts of one permutation give the same rows in the same order.
        hasher.update(len(self.test).to_bytes(8, "little"))
        hasher.update(np.ascontiguousarray(self.test).tobytes() + np.ascontiguousarray(self.past).tobytes())
        return hasher.hexdigest()[:24]

    def _path(self, key: str) -> Path | None:
        if self.cache is None:
            return None
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self.cache / f"{self._digest}-{name}.npz"


def _write(path: Path, test: Estimates, own: Estimates | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"quality": test.quality, "cost": test.cost}
    if own is not None:
        arrays |= {"own_quality": own.quality, "own_cost": own.cost}
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _read(path: Path) -> tuple[Estimates, Estimates | None]:
    with np.load(path) as arrays:
        own = Estimates(arrays["own_quality"], arrays["own_cost"]) if "own_quality" in arrays else None
        return Estimates(arrays["quality"], arrays["cost"]), own


@dataclass(frozen=True)
class Case:
    """Input of a policy: queries in order of arrival, and budgets.

    Parameters
    ----------
    split : Split
        Source of the queries and the history.
    rows : ndarray of int, shape [n]
        Test queries in order of arrival, as indices into `split.test`.
    budgets : ndarray of float64, shape [M]
        USD of each LLM. With a shared total, its division by the rule "weighted", for reference only.
    horizon : int
        N, the number of queries that the budgets cover.
    seed : int
        Seed of all random draws of a policy.
    shared : tuple of Budget
        One total or one budget per group, instead of a budget per LLM.
    terms : QueryTerms
        Groups of the queries, in order of arrival.
    """

    split: Split
    rows: IntArray
    budgets: FloatArray
    horizon: int
    seed: int = 0
    shared: tuple[Budget, ...] = ()
    terms: QueryTerms = QueryTerms()  # noqa: RUF009

    @classmethod
    def of(
        cls,
        split: Split,
        factor: float = 1.0,
        how: str = "weighted",
        *,
        h: int = 1,
        order: str | int = "random",
        split_seed: int = 0,
        group_by: str = "",
        groups: Sequence[float] = (),
    ) -> Case:
        """Set budgets by the history's means and the test set's cheapest total, as in the paper's section 4.

        Parameters
        ----------
        factor : float
            Budget factor.
        how : str
            Budget split; see `routing.budgets.splits.split_budget`. "shared": all LLMs share the total.
        h : int
            Parameter of the extreme split.
        order : {"random", "task"} or int
            The permutation's order; sorted by task; or shuffled again with this seed.
        split_seed : int
            Seed of the random split.
        group_by : str
            Field that queries are grouped by.
        groups : sequence of float
            Shares of the total for groups of equal traffic; only with "shared".
        """
        past, test = split.past, split.test
        cost = split.data.cost
        total = total_budget(cost[test], factor)
        rule = "weighted" if how == SHARED else how
        budgets = split_budget(
            total, split.data.quality[past].mean(0), cost[past].mean(0), rule, seed=split_seed, h=h
        )
        n = len(test)
        if order == "random":
            rows = np.arange(n)
        elif order == "task":
            rows = np.argsort(np.array([split.data.tasks[i] for i in test]), kind="stable")
        else:
            rows = np.random.default_rng(int(order)).permutation(n)
        shared: tuple[Budget, ...] = (Budget(TOTAL, limit=total),) if how == SHARED else ()
        terms = QueryTerms()
        if groups:
            if how != SHARED:
                raise ValueError(
                    f"groups: the total must be shared, not split by {how!r}; add --split shared"
                )
            shares = np.asarray(groups, float) / np.sum(groups)
            names = [f"group-{number}" for number in range(1, len(shares) + 1)]
            limits = dict(zip(names, (total * shares).tolist(), strict=True))
            shared = (Budget(group_by, group_by=f"metadata.{group_by}", limits=limits),)
            drawn = np.random.default_rng(GROUP_SEED + split.seed).integers(len(names), size=n)
            terms = QueryTerms(values={f"metadata.{group_by}": [names[number] for number in drawn]})
        return cls(split, rows, budgets, n, split.seed, shared, terms)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the LLMs."""
        return tuple(self.split.data.models)

    @property
    def quality(self) -> FloatArray:
        """True quality in order of arrival, [n, M]."""
        return self.split.data.quality[self.split.test[self.rows]]

    @property
    def cost(self) -> FloatArray:
        """True cost in order of arrival, USD, [n, M]."""
        return self.split.data.cost[self.split.test[self.rows]]

    def estimates(self, source: EstimateSource) -> Estimates:
        """Return a source's estimates in order of arrival, [n, M]."""
        return self.split.estimates(source)[0].rows(self.rows)

    def leave_one_out(self, source: EstimateSource) -> Estimates:
        """Return a source's leave-one-out estimates of the history, [H, M]."""
        own = self.split.estimates(source)[1]
        if own is None:
            raise ValueError(f"source: {source.key} has no leave-one-out estimates of the history")
        return own

    def head(self, n: int) -> Case:
        """Return the case of the first n queries, with the same budgets and horizon."""
        return replace(self, rows=self.rows[:n], terms=self.terms.rows(slice(n)))

    def with_budgets(self, budgets: FloatArray) -> Case:
        """Return the same queries with other budgets."""
        return replace(self, budgets=np.asarray(budgets, float))

    @property
    def total(self) -> float:
        """USD of all budgets together."""
        return float(self.budgets.sum())

    @property
    def counters(self) -> Counters:
        """The counters of a shared total or of groups."""
        return Counters.of(self.shared, self.models)

    def require_per_llm(self, policy: str) -> None:
        """Raise an error if the LLMs have no budgets of their own.

        Raises
        ------
        ValueError
            The total is shared.
        """
        if self.shared:
            raise ValueError(
                f"policies: {policy} needs a budget for each LLM; give a split other than {SHARED!r}"
            )

    def account(self, choice: IntArray) -> SimulationResult:
        """Apply the accounting rule to the choices of a policy."""
        if self.shared:
            return account_for_counters(choice, self.quality, self.cost, self.counters, self.terms)
        return account_for(choice, self.quality, self.cost, self.budgets)
