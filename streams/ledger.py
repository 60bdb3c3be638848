"""The ledger: a record a lane, written in every transaction, and one for each account of a period before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
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
    past : mapping of int to Account
        Of periods before, oldest first: outcomes still settle there. Not part of the record's message: each
        has one of its own, written only when it changes (`account_key`).
    forgotten : int
        Accounts of periods up to this one are not kept any more.
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
    past: Mapping[int, Account] = field(default_factory=dict)
    forgotten: int = 0
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

    # ---- accounts ----------------------------------------------------------------------------------------

    @property
    def accounts(self) -> tuple[Account, ...]:
        """All that are kept, the current one first."""
        return (self.account, *self.past.values())

    @property
    def closed(self) -> Account | None:
        """Of the last period before the current one."""
        return self.past[max(self.past)] if self.past else None

    def account_of(self, period: int) -> Account | None:
        """The account of a period, where it is kept."""
        return self.account if self.account.period == period else self.past.get(period)

    def with_account(self, account: Account) -> LedgerRecord:
        """The same with another account of a period that is kept."""
        if account.period == self.account.period:
            return replace(self, account=account)
        return replace(self, past={**self.past, account.period: account})

    def entering(self, account: Account) -> LedgerRecord:
        """The record in a new period; the account of the one before is kept, to be settled."""
        before = {self.account.period: self.account} if self.account.period > 0 else {}
        return replace(self, account=account, past={**self.past, **before})

    def forgetting(self, period: int) -> LedgerRecord:
        """The same without accounts of periods up to this one."""
        if period <= self.forgotten:
            return self
        kept = {number: account for number, account in self.past.items() if number > period}
        return replace(self, past=kept, forgotten=period)

    # ---- the message -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """As plain data (arrays stay arrays, for orjson), without past accounts."""
        return {
            "lane": self.lane,
            "models": self.models,
            "account": account_to_dict(self.account),
            "forgotten": self.forgotten,
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
    def from_dict(cls, data: dict[str, Any], past: Mapping[int, Account] | None = None) -> LedgerRecord:
        """What `to_dict` made, here or in another version: fields that are not known are left out.

        Parameters
        ----------
        data : dict
        past : mapping of int to Account, optional
            Accounts of periods before, as the topic has them. A version that kept a single one wrote it into
            the record, as `closed`; what it did not keep is forgotten.
        """
        known = {one.name for one in fields(cls)} - {"models", "account", "past"}
        plain = {key: value for key, value in data.items() if key in known}
        account, kept = account_from_dict(data["account"]), dict(past or {})
        if "forgotten" not in data:
            closed = account_from_dict(data["closed"]) if data.get("closed") else None
            kept = {} if closed is None else {closed.period: closed}
            plain["forgotten"] = max(0, min([account.period, *kept]) - 1)
        return cls(models=tuple(data["models"]), account=account, past=kept, **plain)

    def encode(self) -> bytes:
        """The record as the changelog's value, under the key `lane_key`."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY)

    @classmethod
    def decode(cls, value: bytes, past: Mapping[int, Account] | None = None) -> LedgerRecord:
        """What `encode` wrote, and accounts of periods before."""
        return cls.from_dict(orjson.loads(value), past)

    def encode_account(self, period: int) -> bytes:
        """A past account as the changelog's value, under the key `account_key`.

        A version that knows nothing of these takes it for a lane's record, and the next for a newer one.
        """
        account = account_to_dict(self.past[period])
        data = {"lane": self.lane, "models": self.models, "account": account}
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


def lane_key(lane: int) -> bytes:
    """Key of a lane's record."""
    return b"%d" % lane


def account_key(lane: int, period: int) -> bytes:
    """Key of a lane's account of a period before."""
    return b"%d/%d" % (lane, period)


def period_of(key: bytes | None) -> int | None:
    """The period of an account that has a message of its own; None: the message is a lane's record.

    Examples
    --------
    >>> period_of(account_key(3, 17)), period_of(lane_key(3))
    (17, None)
    """
    _, slash, period = (key or b"").partition(b"/")
    return int(period) if slash else None


def account_to_dict(account: Account) -> dict[str, Any]:
    """An account as plain data; amounts are picodollars."""
    return {name: getattr(account, name) for name in ("period", *VECTORS, *COUNTS)}


def account_from_dict(data: dict[str, Any]) -> Account:
    """What `account_to_dict` made."""
    vectors: dict[str, Any] = {name: np.array(data[name], dtype=np.int64) for name in VECTORS}
    return Account(period=data["period"], **vectors, **{name: data[name] for name in COUNTS})
