"""Account of a lane in one period: released and charged amounts by counter, costs by LLM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.arrays import IntArray
from routing.budgets.counters import CounterKey, Counters
from routing.policy.decision import DEFERRED, UNSERVED

MAX_CHARGE_PICO = 2**62
"""Picodollars at which charges stop: half of what int64 holds, 4.6 million USD."""


@dataclass(frozen=True)
class Account:
    """Counts and amounts of one lane in one period; every array is int64.

    Parameters
    ----------
    period : int
        Period of the account.
    released : ndarray, shape [K]
        Grants of each counter given back so far, in its smallest unit; never decreases.
    charged : ndarray, shape [K]
        Open reservations plus the actual draws of settled queries. The lane may spend
        granted - released - charged.
    reserved : ndarray, shape [M]
        All reservations, settled or not, picodollars.
    settled : ndarray, shape [M]
        Actual costs of settled queries, picodollars.
    served, settlements, lapsed : ndarray, shape [M]
        Queries routed to each LLM, settled, and expired without an outcome.
    freed : ndarray, shape [M]
        Reservations of settled queries, picodollars.
    failed : ndarray, shape [M]
        Settled queries without an answer: fleets returned them, or reported the status `failed`.
    arrived, unserved, deferred, dead : int
        Queries that arrived, were left unserved, were deferred to the overflow lane, or were rejected.
    again : int
        Decisions about returned queries, which arrived before.
    counters : Counters, optional
        The K counters. None: one US dollar budget per LLM, in the order of the LLMs.
    seen : ndarray, shape [K]
        Queries that arrived with the value of a counter; 0 for budgets without `group_by`. Empty without
        counters.
    use : ndarray, shape [K, M, 3]
        By counter and LLM: queries served, picodollars reserved, and picodollars settled. Empty without
        counters.
    """

    period: int
    released: IntArray
    charged: IntArray
    reserved: IntArray
    settled: IntArray
    served: IntArray
    settlements: IntArray
    lapsed: IntArray
    failed: IntArray
    freed: IntArray
    arrived: int = 0
    unserved: int = 0
    deferred: int = 0
    dead: int = 0
    again: int = 0
    counters: Counters | None = None
    seen: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    use: IntArray = field(default_factory=lambda: np.zeros((0, 0, 3), dtype=np.int64))

    @classmethod
    def fresh(cls, period: int, models: int, counters: Counters | None = None) -> Account:
        """Return an empty account for M LLMs; without counters, for one budget per LLM."""
        vectors: dict[str, Any] = {name: np.zeros(models, dtype=np.int64) for name in VECTORS}
        account = cls(period, **vectors)
        if counters is None:
            return account
        size = len(counters)
        vectors = {name: np.zeros(size, dtype=np.int64) for name in COUNTER_VECTORS}
        return replace(account, counters=counters, use=np.zeros((size, models, 3), dtype=np.int64), **vectors)

    @property
    def keys(self) -> tuple[CounterKey, ...]:
        """Keys of the counters; empty with one budget per LLM."""
        return () if self.counters is None else self.counters.keys

    def widened(self, models: int) -> Account:
        """Return the account with zeros for LLMs that were added to the catalogue."""
        more = models - len(self.served)
        if more <= 0:
            return self
        none = np.zeros(more, dtype=np.int64)
        names = VECTORS if self.counters is None else LLM_VECTORS
        wider: dict[str, Any] = {name: np.concatenate([getattr(self, name), none]) for name in names}
        if self.counters is not None:
            wider["use"] = np.pad(self.use, ((0, 0), (0, more), (0, 0)))
        return replace(self, **wider)

    def aligned(self, counters: Counters) -> Account:
        """Return the account with these counters first, in their order, then the others that it has."""
        own = self.counters
        if own is counters or own is None:
            return self
        merged, positions = own.aligned(counters)
        if merged.keys == own.keys:
            return replace(self, counters=merged)
        shared = positions >= 0
        moved: dict[str, Any] = {}
        for name in (*COUNTER_VECTORS, "use"):
            old = getattr(self, name)
            moved[name] = np.zeros((len(merged), *old.shape[1:]), dtype=np.int64)
            moved[name][positions[shared]] = old[shared]
        return replace(self, counters=merged, **moved)

    @property
    def charged_by_llm(self) -> IntArray:
        """Open reservations plus actual costs of settled queries, picodollars, [M]."""
        if self.counters is None:
            return self.charged
        return self.reserved - self.freed + self.settled

    def available(self, granted: IntArray) -> IntArray:
        """Return the picodollars left to spend on each LLM, shape [M]; may be negative."""
        return granted - self.released - self.charged

    def released_to(self, granted: IntArray, target: IntArray) -> Account:
        """Return the account after giving back grants beyond the target."""
        excess = np.maximum(self.available(granted) - target, 0)
        return replace(self, released=self.released + excess) if excess.any() else self

    def with_charges(
        self,
        choice: IntArray,
        charge: IntArray,
        columns: IntArray | None = None,
        amounts: IntArray | None = None,
        seen: IntArray | None = None,
    ) -> Account:
        """Return the account after charging a batch.

        Parameters
        ----------
        choice : ndarray of int64, shape [n]
            From `routing.policy.decision.choose`.
        charge : ndarray of int64, shape [n, M]
            Picodollars.
        columns, amounts : ndarray of int64, shape [n, B], optional
            With counters: the counter of each budget, negative for none, and the draw in its smallest unit.
        seen : ndarray of int64, shape [n, G], optional
            With counters: the counter of each budget with `group_by`.
        """
        models = len(self.served)
        rows = np.flatnonzero(choice >= 0)
        model = choice[rows]
        cost = charge[rows, model]
        spent = np.zeros(models, dtype=np.int64)
        np.add.at(spent, model, cost)
        changed: dict[str, Any] = {"charged": self.charged + spent} if self.counters is None else {}
        if columns is not None and amounts is not None:
            changed |= self._counter_changes(model, cost, columns[rows], amounts[rows])
        if seen is not None and seen.size:
            changed["seen"] = self.seen + np.bincount(seen.ravel(), minlength=len(self.seen))
        return replace(
            self,
            reserved=self.reserved + spent,
            served=self.served + np.bincount(model, minlength=models),
            arrived=self.arrived + len(choice),
            unserved=self.unserved + int((choice == UNSERVED).sum()),
            deferred=self.deferred + int((choice == DEFERRED).sum()),
            **changed,
        )

    def _counter_changes(
        self, model: IntArray, cost: IntArray, columns: IntArray, amounts: IntArray
    ) -> dict[str, IntArray]:
        """Return charges and uses of the counters after served queries, [r], drew on them, [r, B]."""
        rows, budgets = np.nonzero(columns >= 0)
        touched = columns[rows, budgets]
        charged, use = self.charged.copy(), self.use.copy()
        np.add.at(charged, touched, amounts[rows, budgets])
        places = touched * use.shape[1] + model[rows]
        by_place = use.reshape(-1, use.shape[2])
        np.add.at(by_place[:, 0], places, 1)
        np.add.at(by_place[:, 1], places, cost[rows])
        return {"charged": charged, "use": use}

    def settle(
        self,
        model: IntArray,
        reserved: IntArray,
        actual: IntArray,
        columns: IntArray | None = None,
        tokens: tuple[IntArray, IntArray] | None = None,
    ) -> Account:
        """Return the account after settling reservations by actual costs; arguments are of shape [n].

        Charges stop at `MAX_CHARGE_PICO`, so that wrong outcomes cannot overflow int64.

        Parameters
        ----------
        model, reserved, actual : ndarray of int64, shape [n]
            LLM, and picodollars reserved and spent.
        columns : ndarray of int64, shape [n, B], optional
            Counters that each reservation drew on, negative for none; required with counters.
        tokens : pair of ndarray of int64, shape [n], optional
            Tokens reserved and used; without them, reserved tokens stay charged.
        """
        models = len(self.served)
        change, spent = np.zeros(models, dtype=np.int64), np.zeros(models, dtype=np.int64)
        np.add.at(change, model, actual - reserved)
        np.add.at(spent, model, actual)
        before = np.zeros(models, dtype=np.int64)
        np.add.at(before, model, reserved)
        settled = replace(
            self,
            charged=np.minimum(self.charged + change, MAX_CHARGE_PICO)
            if self.counters is None
            else self.charged,
            settled=np.minimum(self.settled + spent, MAX_CHARGE_PICO),
            freed=self.freed + before,
            settlements=self.settlements + np.bincount(model, minlength=models),
        )
        if self.counters is None:
            return settled
        if columns is None:
            raise ValueError("columns: missing; a reservation says which counters it drew on")
        return settled._settle_counters(self.counters, model, actual, actual - reserved, columns, tokens)

    def _settle_counters(
        self,
        counters: Counters,
        model: IntArray,
        actual: IntArray,
        change: IntArray,
        columns: IntArray,
        tokens: tuple[IntArray, IntArray] | None,
    ) -> Account:
        charged, use = self.charged.copy(), self.use.copy()
        for number, budget in enumerate(counters.budgets):
            rows = np.flatnonzero(columns[:, number] >= 0)
            touched = columns[rows, number]
            np.add.at(use[:, :, 2], (touched, model[rows]), actual[rows])
            if budget.unit == "usd":
                np.add.at(charged, touched, change[rows])
            elif budget.unit == "tokens" and tokens is not None:
                np.add.at(charged, touched, (tokens[1] - tokens[0])[rows])
        return replace(
            self, charged=np.minimum(charged, MAX_CHARGE_PICO), use=np.minimum(use, MAX_CHARGE_PICO)
        )

    def with_counters_of(self, models: tuple[str, ...]) -> Account:
        """Return an account of one budget per LLM with counters of these LLMs' names."""
        counters = Counters.per_llm(models)
        use = np.zeros((len(models), len(models), 3), dtype=np.int64)
        diagonal = np.arange(len(models))
        use[diagonal, diagonal] = np.stack([self.served, self.reserved, self.settled], axis=1)
        return replace(self, counters=counters, seen=np.zeros(len(models), dtype=np.int64), use=use)

    # ---- counters as records of their own ----------------------------------------------------------------

    def counter_states(self, columns: NDArray[np.intp]) -> list[dict[str, Any]]:
        """Return the states of counters as plain data, for `with_counter_state`, in the columns' order."""
        rows = zip(*(getattr(self, name)[columns].tolist() for name in COUNTER_VECTORS), strict=True)
        states: list[dict[str, Any]] = [dict(zip(COUNTER_VECTORS, row, strict=True)) for row in rows]
        for state in states:
            state["use"] = {}
        use = self.use[columns]
        used = np.nonzero(use.any(axis=2))
        for row, model, amounts in zip(*(one.tolist() for one in used), use[used].tolist(), strict=True):
            states[row]["use"][str(model)] = amounts
        return states

    def with_counter_state(self, column: int, state: dict[str, Any]) -> Account:
        """Return the account with the state of one counter of `counter_states`."""
        changed: dict[str, Any] = {name: getattr(self, name).copy() for name in (*COUNTER_VECTORS, "use")}
        for name in COUNTER_VECTORS:
            changed[name][column] = state[name]
        changed["use"][column] = 0
        for model, amounts in state["use"].items():
            changed["use"][column, int(model)] = amounts
        return replace(self, **changed)

    def fail(self, model: IntArray) -> Account:
        """Return the account after queries, shape [n], were settled without an answer."""
        return replace(self, failed=self.failed + np.bincount(model, minlength=len(self.failed)))

    def decided_again(self, queries: int, unserved: int = 0) -> Account:
        """Return the account after returned queries were decided, of which `routed` counted as arrived.

        Parameters
        ----------
        queries : int
            Number of queries that `routed` decided.
        unserved : int
            Number of further ones that all their LLMs had returned.
        """
        return replace(
            self,
            arrived=self.arrived - queries,
            unserved=self.unserved + unserved,
            again=self.again + queries + unserved,
        )

    def lapse(self, model: IntArray) -> Account:
        """Return the account after reservations expired without an outcome, shape [n]; they stay charged."""
        return replace(self, lapsed=self.lapsed + np.bincount(model, minlength=len(self.lapsed)))


def changed_columns(before: Account, after: Account) -> IntArray:
    """Return the columns of `after` whose state differs from `before`, which may have fewer counters."""
    if after.counters is None:
        return np.flatnonzero((after.charged != before.charged) | (after.released != before.released))
    if before.period != after.period or before.counters is None:
        before = Account.fresh(after.period, len(after.served), after.counters)
    before = before.aligned(after.counters).widened(len(after.served))
    size = len(after.charged)
    differs = (after.use != before.use[:size]).any(axis=(1, 2))
    for name in COUNTER_VECTORS:
        differs |= getattr(after, name) != getattr(before, name)[:size]
    return np.flatnonzero(differs)


LLM_VECTORS = ("reserved", "settled", "served", "settlements", "lapsed", "failed", "freed")
COUNTER_VECTORS = ("released", "charged", "seen")
VECTORS = ("released", "charged", *LLM_VECTORS)
COUNTS = ("arrived", "unserved", "deferred", "dead", "again")
