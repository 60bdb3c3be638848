"""The plan: prices that steer and rights that bound, one frozen record that every lane reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.decision import IntArray
from routing.estimators.base import FloatArray


@dataclass(frozen=True)
class Plan:
    """What is in force: for one period, one version of the prices and one revision of the rights.

    Parameters
    ----------
    period : int
        Counts from 1. Rights and charges are cumulative within a period.
    version : int
        Counts price solves over all periods; 0 before the first.
    revision : int
        Counts every published change, so that the newest plan is the one with the highest.
    models : tuple of str, length M
        Catalogue order; models are added at the end and never move while a period lasts.
    active : ndarray of bool, shape [M]
        LLMs that may be chosen.
    budgets : ndarray of int64, shape [M]
        Picodollars for the period.
    prices : ndarray of float64, shape [M]
        Quality per USD.
    learned : bool
        False until prices exist: lanes are in warm-up.
    granted, target : ndarray of int64, shape [L, M]
        Picodollars granted so far to each lane, and what a lane should hold. The last lane is the overflow
        lane where `overflow` is set.
    overflow : bool
        A lane defers a query whose best LLM it cannot pay.
    horizon : int
        Queries the period is planned for.
    until : int, optional
        Queries of the period after which a lane in lockstep waits for the next plan.
    solved_from : dict
        Where the prices come from, for people and for the planner's next owner.
    created_at, began_at : float
        When the plan was made and when its period began; seconds since the epoch, given by the caller.
    catalogue : int
        Version of the catalogue that the plan is for.
    measured : dict of str to list
        LLMs without a history: answers with a quality, their mean quality, mean cost in USD
        (`routing.alignment.Measured`).
    cost_factor : dict of str to float
        How much an LLM's list price has changed since its history.
    priced_by : dict of str to list
        List prices that the history's costs are by, input and output in USD per million tokens, of every LLM
        that ever was in the catalogue: what `cost_factor` is relative to, whatever file a worker starts on.
    billed : int
        The bills of periods up to this one are written for good: lanes need not keep those accounts.
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
    solved_from: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    began_at: float = 0.0
    catalogue: int = 0
    measured: dict[str, list[float]] = field(default_factory=dict)
    cost_factor: dict[str, float] = field(default_factory=dict)
    priced_by: dict[str, list[float | None]] = field(default_factory=dict)
    billed: int = 0

    @property
    def lanes(self) -> int:
        """Number of lanes L that hold rights, the overflow lane included."""
        return len(self.granted)

    @property
    def pool(self) -> int | None:
        """The overflow lane's number, if there is one."""
        return self.lanes - 1 if self.overflow else None

    def for_llms(self, budgets: Mapping[str, int], price: float) -> Plan:
        """The next revision for other LLMs: new ones come at the end, those that are not named are closed.

        Parameters
        ----------
        budgets : mapping of str to int
            Picodollars by LLM. A closed one keeps what it has: of the period it is closed in, it is true.
        price : float
            Of those that are new.
        """
        names = self.models + tuple(name for name in budgets if name not in self.models)
        more = len(names) - len(self.models)
        rows = np.zeros((len(self.granted), more), dtype=np.int64)
        had = zip(names, [*self.budgets.tolist(), *[0] * more], strict=True)
        return self.changed(
            models=names,
            active=np.array([name in budgets for name in names]),
            budgets=np.array([budgets.get(name, amount) for name, amount in had], dtype=np.int64),
            prices=np.concatenate([self.prices, np.full(more, price)]),
            granted=np.hstack([self.granted, rows]),
            target=np.hstack([self.target, rows]),
        )

    def changed(self, **changes: Any) -> Plan:
        """The next revision with these changes."""
        return replace(self, revision=self.revision + 1, **changes)
