"""Plan: prices and grants in force for a budget period, one frozen record that every lane reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import Counters
from routing.budgets.grants import FIRST_SHARE
from routing.policy.pause import Pause
from routing.policy.price_origin import PriceOrigin

UNLIMITED = np.iinfo(np.int64).max


@dataclass(frozen=True)
class LaneColumns:
    """Grants, targets, prices and limits in the columns of one lane's account, each of shape [K].

    `pooled` marks the counters that the lane waits for: the overflow lane should hold a part, or the lane
    never had one.
    """

    granted: IntArray
    target: IntArray
    prices: FloatArray
    limits: IntArray
    pooled: NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """Prices and grants in force for one period.

    Parameters
    ----------
    period : int
        Counts from 1. Grants and charges are cumulative within a period.
    version : int
        Number of price solves over all periods; 0 before the first.
    revision : int
        Number of changes; the newest plan has the highest.
    models : tuple of str, length M
        Catalogue order; models are added at the end and never move while a period lasts.
    active : ndarray of bool, shape [M]
        Open LLMs.
    budgets : ndarray of int64, shape [K]
        Limit of each counter for the period, in its smallest unit; a rate's limit grows.
    prices : ndarray of float64, shape [K]
        Quality per USD, per query or per token.
    learned : bool
        Whether prices exist; until then lanes are in warm-up.
    granted, target : ndarray of int64, shape [L, K]
        Amounts granted so far to each lane, and the amount that a lane should hold. The last lane is the
        overflow lane if `overflow` is set.
    overflow : bool
        Whether a lane defers a query whose best LLM it cannot pay.
    horizon : int
        Expected queries of the period.
    until : int, optional
        Queries of the period after which a lane in lockstep waits for the next plan.
    solved_from : PriceOrigin
        Origin of the prices, for people and for the next planner.
    created_at, began_at : float
        Time of the plan and of its period's beginning; seconds since the epoch.
    catalogue : int
        Version of the plan's catalogue.
    measured : dict of str to list
        LLMs without a history: answers with a quality, their mean quality, mean cost in USD
        (`routing.policy.alignment.Measured`).
    cost_factor : dict of str to float
        Change of an LLM's list price since its history.
    priced_by : dict of str to list
        List prices of the history's costs, input and output in USD per million tokens, of every LLM that was
        ever in the catalogue. `cost_factor` is relative to them, whichever catalogue file a worker starts
        with.
    paused : mapping of str to Pause
        LLMs that get no query, or only a share of them as tests. Their budgets stay, and prices are solved
        without them.
    billed : int
        The bills of periods up to this one are final: lanes may drop those accounts.
    correction : dict of str to list
        Evidence on the difference between reported and estimated quality by LLM
        (`routing.feedback.plan_correction`).
    clusters : str
        Digest of the task clusters that the correction is based on; empty without them.
    counters : Counters
        The K counters. The default is one US dollar budget per LLM, so that K = M.
    open : ndarray of bool, shape [K]
        Counters of budgets that are still in the catalogue. The default is `active`.
    reserve_offsets : dict of str to list
        Corrections of the reserved quantile of the cost by LLM (`routing.budgets.cost_quantile`).
    ends_at : float, optional
        End of a period that ends by time, in seconds since the epoch.
    topped_up : mapping of str to int
        Amounts by name of the counter that were added to `budgets` for this period only.
    """

    period: int
    version: int
    revision: int
    models: tuple[str, ...]
    active: NDArray[np.bool_]
    budgets: IntArray
    prices: FloatArray
    learned: bool
    granted: IntArray
    target: IntArray
    overflow: bool
    horizon: int
    until: int | None = None
    solved_from: PriceOrigin = field(default_factory=PriceOrigin)
    created_at: float = 0.0
    began_at: float = 0.0
    catalogue: int = 0
    measured: dict[str, list[float]] = field(default_factory=dict)
    cost_factor: dict[str, float] = field(default_factory=dict)
    priced_by: dict[str, list[float | None]] = field(default_factory=dict)
    billed: int = 0
    paused: Mapping[str, Pause] = field(default_factory=dict)
    correction: dict[str, list[list[float]]] = field(default_factory=dict)
    clusters: str = ""
    counters: Counters = field(default_factory=lambda: Counters((), (), ()))
    open: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    ends_at: float | None = None
    topped_up: Mapping[str, int] = field(default_factory=dict)
    reserve_offsets: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.counters) == 0 or (self.counters.is_per_llm and self.counters.models != self.models):
            object.__setattr__(self, "counters", Counters.per_llm(self.models))
        if self.counters.is_per_llm:
            object.__setattr__(self, "open", self.active)

    @property
    def per_llm(self) -> bool:
        """True with one US dollar budget per LLM and no other: columns of counters are LLMs."""
        return self.counters.is_per_llm

    @property
    def lanes(self) -> int:
        """Number of lanes L with grants, including the overflow lane."""
        return len(self.granted)

    @property
    def pool(self) -> int | None:
        """Number of the overflow lane; None if there is none."""
        return self.lanes - 1 if self.overflow else None

    @property
    def catalogue_limits(self) -> IntArray:
        """Limits without the amounts that were added for this period only, [K]."""
        if not self.topped_up:
            return self.budgets
        return self.budgets - np.array(
            [self.topped_up.get(name, 0) for name in self.counters.names], np.int64
        )

    def budgets_in_force(self, charged: IntArray) -> IntArray:
        """Return the limits of the period; for a removed budget, its charges.

        Parameters
        ----------
        charged : ndarray of int64, shape [K]
            Over all lanes, in the counters' smallest units.
        """
        return np.where(self.open, self.budgets, np.minimum(self.budgets, charged))

    # ---- counters ----------------------------------------------------------------------------------------

    def lane_columns(self, lane: int, counters: Counters | None) -> LaneColumns:
        """Return grants, targets, prices and limits in the columns of a lane's account.

        Parameters
        ----------
        lane : int
        counters : Counters or None
            The plan's counters first, then values that it does not know yet; None for the plan's.
        """
        granted, target = self.granted[lane], self.target[lane]
        pooled = (self.target[-1] > 0) | (granted == 0)
        plan_columns = LaneColumns(granted, target, self.prices, self.budgets, pooled)
        if counters is None or len(counters) == len(self.counters):
            return plan_columns
        new = counters.keys[len(self.counters) :]
        limits = np.array([self._limit_of(name, value) for name, value in new], dtype=np.int64)
        return LaneColumns(
            np.concatenate([plan_columns.granted, self.first_grants(limits)[lane]]),
            np.concatenate([plan_columns.target, np.full(len(new), UNLIMITED)]),
            np.concatenate([plan_columns.prices, [self.price_of_new(name) for name, _ in new]]),
            np.concatenate([plan_columns.limits, limits]),
            np.concatenate([plan_columns.pooled, np.ones(len(new), dtype=bool)]),
        )

    def first_grants(self, limits: IntArray) -> IntArray:
        """Return what each lane may spend of new values before the planner knows them, [L, len(limits)].

        The planner adopts these grants when it lists the value. So a new value needs no answer from the
        planner, and its limit holds from its first query.
        """
        grants = np.zeros((self.lanes, len(limits)), dtype=np.int64)
        if self.pool is not None:
            grants[self.pool] = (FIRST_SHARE * limits).astype(np.int64)
        else:
            grants[:] = limits // max(1, self.lanes)
        return grants

    def price_of_new(self, budget: str) -> float:
        """Return the price of a value that no sample has shown: the median of its budget's known values."""
        columns = [column for (name, _), column in self.counters.column_of.items() if name == budget]
        open_prices = self.prices[[column for column in columns if self.open[column]]]
        return float(np.median(open_prices)) if len(open_prices) else 0.0

    def _limit_of(self, name: str, value: str | None) -> int:
        for budget in self.counters.budgets:
            if budget.name == name:
                return budget.initial_limit_of(value)
        return 0

    def with_counters(self, counters: Counters) -> Plan:
        """Return the next revision with more counters at the end, granted as lanes assume.

        Parameters
        ----------
        counters : Counters
            The plan's counters first.
        """
        new = counters.keys[len(self.counters) :]
        limits = np.array([self._limit_of(name, value) for name, value in new], dtype=np.int64)
        first = self.first_grants(limits)
        return self.changed(
            counters=counters,
            open=np.concatenate([self.open, np.ones(len(new), dtype=bool)]),
            budgets=np.concatenate([self.budgets, limits]),
            prices=np.concatenate([self.prices, [self.price_of_new(name) for name, _ in new]]),
            granted=np.hstack([self.granted, first]),
            target=np.hstack([self.target, first]),
        )

    def for_llms(self, budgets: Mapping[str, int], price: float) -> Plan:
        """Return the next revision for other LLMs: new ones are added at the end, missing ones are closed.

        Parameters
        ----------
        budgets : mapping of str to int
            Picodollars by LLM. A closed LLM keeps its budget for the rest of the period.
        price : float
            Price of the new LLMs."""
        names = self.models + tuple(name for name in budgets if name not in self.models)
        more = len(names) - len(self.models)
        rows = np.zeros((len(self.granted), more), dtype=np.int64)
        old_budgets = zip(names, [*self.budgets.tolist(), *[0] * more], strict=True)
        return self.changed(
            models=names,
            active=np.array([name in budgets for name in names]),
            budgets=np.array([budgets.get(name, amount) for name, amount in old_budgets], dtype=np.int64),
            prices=np.concatenate([self.prices, np.full(more, price)]),
            granted=np.hstack([self.granted, rows]),
            target=np.hstack([self.target, rows]),
        )

    def changed(self, **changes: Any) -> Plan:
        """Return the next revision with these changes."""
        return replace(self, revision=self.revision + 1, **changes)
