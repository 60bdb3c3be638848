"""A data set divided into history and test queries, and the cases that policies are run on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from routing.budgets import split_budget, total_budget
from routing.cues import text_features
from routing.estimators.base import Estimates, FloatArray, QueryBatch
from routing.folder import write_atomically
from routing.history import EmbeddedHistory, History

IntArray = NDArray[np.int64]


@runtime_checkable
class Source(Protocol):
    """Where a policy's estimates come from."""

    @property
    def key(self) -> str:
        """Names the source and all its settings; estimates are kept under it."""
        ...

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """Estimates of the test queries, and leave-one-out estimates of the history where there are any."""
        ...


@dataclass(eq=False)
class Split:
    """History and test set of one seed, and every estimate made so far.

    Parameters
    ----------
    data : History
        The whole data set.
    embeddings : ndarray of float32, shape [rows, d]
        Unit embeddings of its texts.
    embedder : str
        Identity of what made them.
    test, past : ndarray of int
        Rows of the test set in order of arrival, and of the history.
    seed : int
        Of the permutation.
    cache : path, optional
        Folder in which slow estimates are kept between runs.
    """

    data: History
    embeddings: NDArray[np.float32]
    embedder: str
    test: IntArray
    past: IntArray
    seed: int
    cache: Path | None = None
    _made: dict[str, tuple[Estimates, Estimates | None]] = field(default_factory=dict, repr=False)

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
        """Split by ``default_rng(seed).permutation``: the first rows are the test set in that order.

        Parameters
        ----------
        queries : int
            N, length of the test set.
        history : int, optional
            Rows of the history that are kept; all when left out.

        Raises
        ------
        ValueError
            No row is left for the history, or fewer than are asked for.
        """
        if not 0 < queries < len(data):
            raise ValueError(
                f"queries: {queries} must be between 1 and {len(data) - 1}: the other rows are history"
            )
        left = len(data) - queries
        if history is not None and not 0 < history <= left:
            raise ValueError(f"history: {history} must be 1 to {left}, the rows that are no test queries")
        order = np.random.default_rng(seed).permutation(len(data))
        past = order[queries:] if history is None else order[queries : queries + history]
        return cls(data, embeddings, embedder, order[:queries], past, seed, cache)

    @cached_property
    def history(self) -> EmbeddedHistory:
        """The embedded history."""
        return EmbeddedHistory(self.data.select(self.past), self.embeddings[self.past], self.embedder)

    @cached_property
    def features(self) -> FloatArray:
        """Counts and cues of all rows, [rows, 38]."""
        return text_features(self.data.prompts)

    @property
    def texts(self) -> Sequence[str]:
        """What an embedder would get of the test queries."""
        return [self.data.texts[i] for i in self.test]

    def batch(self, embeddings: NDArray[np.float32] | None = None) -> QueryBatch:
        """The test queries, embedded as the data set is unless other embeddings are given."""
        vectors = self.embeddings[self.test] if embeddings is None else embeddings
        return QueryBatch([self.data.prompts[i] for i in self.test], vectors, self.features[self.test])

    def estimates(self, source: Source) -> tuple[Estimates, Estimates | None]:
        """A source's estimates, made once; from the cache where they were kept."""
        if source.key not in self._made:
            path = self._path(source.key)
            if path is not None and path.exists():
                self._made[source.key] = _read(path)
            else:
                self._made[source.key] = made = source.make(self)
                if path is not None:
                    _write(path, *made)
        return self._made[source.key]

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.sha256(self.data.digest().encode())
        hasher.update(np.ascontiguousarray(self.embeddings).tobytes())
        # the length too: two cuts of one permutation are the same rows in the same order
        hasher.update(len(self.test).to_bytes(8, "little"))
        hasher.update(np.ascontiguousarray(self.test).tobytes() + np.ascontiguousarray(self.past).tobytes())
        return hasher.hexdigest()[:24]

    def _path(self, key: str) -> Path | None:
        if self.cache is None:
            return None
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self.cache / f"{self._digest}-{name}.npz"


def _write(path: Path, made: Estimates, own: Estimates | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"quality": made.quality, "cost": made.cost}
    if own is not None:
        arrays |= {"own_quality": own.quality, "own_cost": own.cost}
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _read(path: Path) -> tuple[Estimates, Estimates | None]:
    with np.load(path) as kept:
        own = Estimates(kept["own_quality"], kept["own_cost"]) if "own_quality" in kept else None
        return Estimates(kept["quality"], kept["cost"]), own


@dataclass(frozen=True)
class Case:
    """What a policy is run on: queries in order of arrival, and budgets.

    Parameters
    ----------
    split : Split
        Where the queries and the history come from.
    rows : ndarray of int, shape [n]
        Test queries in order of arrival, as places in `split.test`.
    budgets : ndarray of float64, shape [M]
        USD.
    horizon : int
        N, the queries that the budgets are for.
    seed : int
        Of everything random in a policy.
    """

    split: Split
    rows: IntArray
    budgets: FloatArray
    horizon: int
    seed: int = 0

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
    ) -> Case:
        """Budgets from the history's means and the test set's cheapest total, as in the paper's section 4.

        Parameters
        ----------
        factor : float
            Budget factor.
        how : str
            Budget split; see `routing.budgets.split_budget`.
        h : int
            Of the extreme split.
        order : {"random", "task"} or int
            As the permutation has it; sorted by task; or shuffled again with this seed.
        split_seed : int
            Of the random split.
        """
        past, test = split.past, split.test
        cost = split.data.cost
        total = total_budget(cost[test], factor)
        budgets = split_budget(
            total, split.data.quality[past].mean(0), cost[past].mean(0), how, seed=split_seed, h=h
        )
        n = len(test)
        if order == "random":
            rows = np.arange(n)
        elif order == "task":
            rows = np.argsort(np.array([split.data.tasks[i] for i in test]), kind="stable")
        else:
            rows = np.random.default_rng(int(order)).permutation(n)
        return cls(split, rows, budgets, n, split.seed)

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

    def estimates(self, source: Source) -> Estimates:
        """Estimates in order of arrival, [n, M]."""
        return self.split.estimates(source)[0].rows(self.rows)

    def own(self, source: Source) -> Estimates:
        """Leave-one-out estimates of the history, [H, M]."""
        own = self.split.estimates(source)[1]
        if own is None:
            raise ValueError(f"source: {source.key} has no leave-one-out estimates of the history")
        return own

    def head(self, n: int) -> Case:
        """The first n queries; budgets and horizon stay."""
        return replace(self, rows=self.rows[:n])

    def with_budgets(self, budgets: FloatArray) -> Case:
        """The same queries with other budgets."""
        return replace(self, budgets=np.asarray(budgets, float))
