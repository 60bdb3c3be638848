"""Accounts as plain data: the part of a lane's record, and one part for each counter of a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from routing.arrays import IntArray
from routing.budgets.budget import Budget
from routing.budgets.counters import CounterKey, Counters
from routing.policy.account import COUNTS, LLM_VECTORS, Account

BUDGET_FIELDS = ("name", "unit", "models", "group_by")
"""Fields of a budget that a ledger keeps: those that say what settles in it."""


def account_to_dict(account: Account, groups: bool = False) -> dict[str, Any]:
    """Return an account as plain data; amounts are in the smallest unit of their counter.

    Parameters
    ----------
    account : Account
    groups : bool
        With the counters of groups, which have records of their own on the ledger's topic.
    """
    data: dict[str, Any] = {"period": account.period}
    data |= {name: getattr(account, name) for name in (*LLM_VECTORS, *COUNTS)}
    counters = account.counters
    if counters is None:
        return data | {"released": account.released, "charged": account.charged}
    columns = np.arange(len(counters)) if groups else np.flatnonzero(~counters.grouped)
    data["budgets"] = [_budget_to_dict(budget) for budget in counters.budgets]
    data["counters"] = [
        [*counters.keys[column], int(account.released[column]), int(account.charged[column])]
        for column in columns
    ]
    if groups:
        data["states"] = account.counter_states(columns)
    return data


def account_from_dict(data: Mapping[str, Any], models: tuple[str, ...] = ()) -> Account:
    """Return the account of `account_to_dict`.

    Parameters
    ----------
    data : mapping
    models : tuple of str, length M
        LLMs of the account's positions; needed for an account with counters.
    """
    vectors: dict[str, Any] = {name: np.array(data[name], dtype=np.int64) for name in LLM_VECTORS}
    counts = {name: data[name] for name in COUNTS}
    if "counters" not in data:
        for name in ("released", "charged"):
            vectors[name] = np.array(data[name], dtype=np.int64)
        return Account(period=data["period"], **vectors, **counts)
    budgets = tuple(_budget_from_dict(one) for one in data["budgets"])
    keys = tuple((name, value) for name, value, _, _ in data["counters"])
    width = len(vectors["served"])
    counters = Counters(budgets, models[:width], keys)
    account = Account(
        period=data["period"],
        released=np.array([row[2] for row in data["counters"]], dtype=np.int64),
        charged=np.array([row[3] for row in data["counters"]], dtype=np.int64),
        **vectors,
        **counts,
        counters=counters,
        seen=np.zeros(len(keys), dtype=np.int64),
        use=use_of_fixed(counters, vectors),
    )
    for column, state in enumerate(data.get("states", ())):
        account = account.with_counter_state(column, state)
    return account


def use_of_fixed(counters: Counters, vectors: Mapping[str, IntArray]) -> IntArray:
    """Return the use of each counter by LLM, [K, M, 3]: the LLM's own where the budget covers it."""
    own = np.stack([vectors["served"], vectors["reserved"], vectors["settled"]], axis=1)
    covered = counters.covers[counters.budget_of]
    return np.where(covered[:, :, None] & ~counters.grouped[:, None, None], own, 0)


def _budget_to_dict(budget: Budget) -> dict[str, Any]:
    data = {name: getattr(budget, name) for name in BUDGET_FIELDS}
    return {name: value for name, value in data.items() if value is not None}


def _budget_from_dict(data: Mapping[str, Any]) -> Budget:
    return Budget(**{**data, "models": tuple(data["models"])})


# ---- keys of the ledger's topic ---------------------------------------------------------------------------


def lane_key(lane: int) -> bytes:
    """Return the key of a lane's record."""
    return b"%d" % lane


def account_key(lane: int, period: int) -> bytes:
    """Return the key of a lane's past account."""
    return b"%d/%d" % (lane, period)


def counter_key(lane: int, period: int, key: CounterKey) -> bytes:
    """Return the key of a counter of a group in a lane's account of a period.

    Examples
    --------
    >>> counter_key(3, 17, ("team", "a/b"))
    b'3/17/["team","a/b"]'
    """
    return b"%d/%d/%s" % (lane, period, orjson.dumps(key))


def period_of(key: bytes | None) -> int | None:
    """Return the period of the key of a past account or a counter, or None for a lane's record.

    Examples
    --------
    >>> period_of(account_key(3, 17)), period_of(lane_key(3)), period_of(counter_key(3, 17, ("a", "b")))
    (17, None, 17)
    """
    parts = (key or b"").split(b"/", 2)
    return int(parts[1]) if len(parts) > 1 else None


def counter_of(key: bytes | None) -> CounterKey | None:
    """Return the counter of a key, or None for the key of an account or a lane's record.

    Examples
    --------
    >>> counter_of(counter_key(3, 17, ("team", "a/b"))), counter_of(account_key(3, 17))
    (('team', 'a/b'), None)
    """
    parts = (key or b"").split(b"/", 2)
    if len(parts) < 3:
        return None
    name, value = orjson.loads(parts[2])
    return name, value


class GroupColumns:
    """The counters of groups in one account, updated by the records that changed.

    Parameters
    ----------
    period : int
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self._values: dict[CounterKey, bytes] = {}
        self._columns: dict[CounterKey, int] = {}
        self._arrays: dict[str, IntArray] = {}
        self._use: IntArray = np.zeros((0, 0, 3), dtype=np.int64)
        self._merged: tuple[Account, Account] | None = None
        self._counters: Counters | None = None

    def update(self, records: Mapping[CounterKey, bytes]) -> bool:
        """Apply the records of all counters; return True if one changed."""
        changed = [(key, value) for key, value in records.items() if self._values.get(key) is not value]
        if not changed:
            return False
        for key, value in changed:
            if key not in self._columns:
                self._columns[key] = len(self._columns)
                self._grow()
            self._values[key] = value
            self._set(self._columns[key], orjson.loads(value))
        self._merged = None
        return True

    def merged(self, account: Account) -> Account:
        """Return a lane's account with these counters, after those of its record."""
        if not self._columns or account.counters is None:
            return account
        if self._merged is not None and self._merged[0] is account:
            return self._merged[1]
        fixed = account.counters
        keys = (*fixed.keys, *self._columns)
        now = Counters(fixed.budgets, fixed.models, keys)
        if self._counters is None or self._counters != now:
            self._counters = now
        count, models = len(self._columns), account.use.shape[1]
        use = self._use[:count, :models]
        merged = replace(
            account,
            counters=self._counters,
            released=np.concatenate([account.released, self._arrays["released"][:count]]),
            charged=np.concatenate([account.charged, self._arrays["charged"][:count]]),
            seen=np.concatenate([account.seen, self._arrays["seen"][:count]]),
            use=np.concatenate([account.use, np.pad(use, ((0, 0), (0, models - use.shape[1]), (0, 0)))]),
        )
        self._merged = (account, merged)
        return merged

    def _grow(self) -> None:
        size = len(self._columns)
        if self._use.shape[0] >= size:
            return
        room = max(16, 2 * size)
        for name in ("released", "charged", "seen"):
            old = self._arrays.get(name, np.zeros(0, dtype=np.int64))
            self._arrays[name] = np.pad(old, (0, room - len(old)))
        self._use = np.pad(self._use, ((0, room - self._use.shape[0]), (0, 0), (0, 0)))

    def _set(self, column: int, state: Mapping[str, Any]) -> None:
        for name in ("released", "charged", "seen"):
            self._arrays[name][column] = state[name]
        used = {int(model): amounts for model, amounts in state["use"].items()}
        width = max(used, default=-1) + 1
        if width > self._use.shape[1]:
            self._use = np.pad(self._use, ((0, 0), (0, width - self._use.shape[1]), (0, 0)))
        self._use[column] = 0
        for model, amounts in used.items():
            self._use[column, model] = amounts
