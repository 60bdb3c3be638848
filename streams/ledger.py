"""The ledger: one record a lane, its account and offsets, written in every transaction."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import orjson

from routing.account import COUNTS, VECTORS, Account

OUTCOME_KINDS = ("settled", "duplicate", "late", "unknown", "contradictory", "refused")


@dataclass(frozen=True)
class LedgerRecord:
    """What is true of a lane after its last transaction.

    Parameters
    ----------
    lane : int
        Input partition, or the number of partitions for the overflow lane.
    models : tuple of str, length M
        What the account's positions stand for.
    account : Account
        Of the period that the lane is in.
    closed : Account, optional
        Of the period before, which late outcomes still settle.
    next : int
        Offset of the first query that is not decided.
    sampled : int
        Offset of the first query whose sample was not sent; beyond `next` during warm-up.
    outcomes_next : int
        Offset of the first outcome that is not taken in.
    reservations_from : int
        Offset of the first batch of reservations that may still be open.
    version, revision : int
        Of the plan used last.
    outcomes : dict of str to int
        Outcomes taken in since the beginning, by what became of them.
    reported : dict of str to list
        By LLM: outcomes that carried a quality, the sum of those, the sum of what was estimated for them, and
        the USD that they cost; of all periods.
    written_at : float
        Seconds since the epoch.
    """

    lane: int
    models: tuple[str, ...]
    account: Account
    closed: Account | None = None
    next: int = 0
    sampled: int = 0
    outcomes_next: int = 0
    reservations_from: int = 0
    version: int = 0
    revision: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    reported: dict[str, list[float]] = field(default_factory=dict)
    written_at: float = 0.0

    @classmethod
    def fresh(cls, lane: int) -> LedgerRecord:
        """Of a lane that has done nothing; period 0 is before the first."""
        return cls(lane, (), Account.fresh(0, 0))

    def to_dict(self) -> dict[str, Any]:
        """As plain data (arrays stay arrays, for orjson)."""
        return {
            "lane": self.lane,
            "models": self.models,
            "account": account_to_dict(self.account),
            "closed": None if self.closed is None else account_to_dict(self.closed),
            "next": self.next,
            "sampled": self.sampled,
            "outcomes_next": self.outcomes_next,
            "reservations_from": self.reservations_from,
            "version": self.version,
            "revision": self.revision,
            "outcomes": self.outcomes,
            "reported": self.reported,
            "written_at": self.written_at,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LedgerRecord:
        """What `to_dict` made, here or in another version: fields that are not known are left out."""
        known = {one.name for one in fields(cls)} - {"models", "account", "closed"}
        plain = {key: value for key, value in data.items() if key in known}
        closed = data.get("closed")
        return cls(
            models=tuple(data["models"]),
            account=account_from_dict(data["account"]),
            closed=None if closed is None else account_from_dict(closed),
            **plain,
        )

    def encode(self) -> bytes:
        """The record as the changelog's value."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY)

    @classmethod
    def decode(cls, value: bytes) -> LedgerRecord:
        """What `encode` wrote."""
        return cls.from_dict(orjson.loads(value))


def account_to_dict(account: Account) -> dict[str, Any]:
    """An account as plain data; amounts are picodollars."""
    return {name: getattr(account, name) for name in ("period", *VECTORS, *COUNTS)}


def account_from_dict(data: dict[str, Any]) -> Account:
    """What `account_to_dict` made."""
    vectors: dict[str, Any] = {name: np.array(data[name], dtype=np.int64) for name in VECTORS}
    return Account(period=data["period"], **vectors, **{name: data[name] for name in COUNTS})
