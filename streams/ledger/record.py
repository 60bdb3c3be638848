"""The ledger: one record per lane, written in every transaction, and messages of accounts and counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

from routing.policy.account import Account
from streams.ledger.account_format import account_from_dict, account_to_dict
from streams.ledger.quality_residuals import QualityResiduals
from streams.ledger.reported_quality import ReportedQuality

FORMAT = 2
"""Format of ledgers: accounts have counters, and counters of groups have records of their own."""

OUTCOME_KINDS = ("settled", "duplicate", "late", "unknown", "contradictory", "refused")

RETURN_KINDS = ("returned", "duplicate", "late", "unknown", "contradictory", "refused")

DELETED_GUIDE = 'see "Deleted before they were read" in docs/operations.md'


class LedgerFormatError(ValueError):
    """A ledger of another format, which this release cannot continue.

    Parameters
    ----------
    lane : object
    found : object
        Format of the ledger; None before formats had numbers.
    """

    def __init__(self, lane: object, actual: object) -> None:
        super().__init__(
            f"ledger of lane {lane}: it has format {1 if actual is None else actual}, and this release needs "
            f"{FORMAT}; let the release that wrote it finish, or set PORT_TOPIC_PREFIX to use new topics"
        )


@dataclass(frozen=True)
class LedgerRecord:
    """The state of a lane after its last transaction.

    Parameters
    ----------
    lane : int
        Input partition, or the number of partitions for the overflow lane.
    models : tuple of str, length M
        LLMs of the account's positions.
    account : Account
        Account of the lane's current period. Counters of groups have a message each (`counter_key`), written
        when they change. They are not part of the record's message either.
    past : mapping of int to Account
        Accounts of past periods, oldest first, in which outcomes still settle. Each has a message of its own,
        written only when it changes (`account_key`). They are not part of the record's message.
    forgotten : int
        Last period whose account is not kept any more, and neither are earlier ones.
    next : int
        Offset of the first undecided query.
    sampled : int
        Offset of the first query without a sample; beyond `next` during warm-up.
    outcomes_next : int
        Offset of the first outcome that is not settled.
    returned_next : int
        Offset of the first returned query that is not decided again.
    reservations_from : int
        Offset of the first batch of reservations that may still be open.
    version, revision : int
        Of the last plan used.
    outcomes : dict of str to int
        Number of outcomes since the beginning, by their result (`OUTCOME_KINDS`).
    returns : dict of str to int
        Number of returned queries since the beginning, by their result (`RETURN_KINDS`).
    reported : dict of str to ReportedQuality
        By LLM, of all periods.
    oldest_open : dict of str to float
        Creation time of the oldest open reservation by LLM, in seconds since the epoch.
    residuals : dict of str to QualityResiduals
        By LLM, of all periods; only of queries with a task cluster.
    exceeded : dict of str to list
        By LLM, of all periods: answers, and answers that cost more than was reserved.
    deleted : dict of str to list
        Records deleted before the lane read them, by "input", "outcomes" and "returned": the number of
        offsets since the beginning (transaction markers included), then the first remaining offset and the
        time at the last detection, in seconds since the epoch.
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
    returned_next: int = 0
    reservations_from: int = 0
    version: int = 0
    revision: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    returns: dict[str, int] = field(default_factory=dict)
    reported: dict[str, ReportedQuality] = field(default_factory=dict)
    oldest_open: dict[str, float] = field(default_factory=dict)
    residuals: dict[str, QualityResiduals] = field(default_factory=dict)
    exceeded: dict[str, list[int]] = field(default_factory=dict)
    deleted: dict[str, list[float]] = field(default_factory=dict)
    written_at: float = 0.0

    @classmethod
    def fresh(cls, lane: int) -> LedgerRecord:
        """Return the record of a lane without a transaction; period 0 is before the first."""
        return cls(lane, (), Account.fresh(0, 0))

    # ---- accounts ----------------------------------------------------------------------------------------

    @property
    def accounts(self) -> tuple[Account, ...]:
        """All kept accounts, the current one first."""
        return (self.account, *self.past.values())

    @property
    def closed(self) -> Account | None:
        """Account of the last past period."""
        return self.past[max(self.past)] if self.past else None

    def account_of(self, period: int) -> Account | None:
        """Return the account of a period, or None if it is not kept."""
        return self.account if self.account.period == period else self.past.get(period)

    def with_account(self, account: Account) -> LedgerRecord:
        """Return the record with another account of a kept period."""
        if account.period == self.account.period:
            return replace(self, account=account)
        return replace(self, past={**self.past, account.period: account})

    def with_change(self, period: int, change: Callable[[Account], Account]) -> LedgerRecord:
        """Return the record after a change to a period's account, if it is kept, and to no other."""
        account = self.account_of(period)
        return self if account is None else self.with_account(change(account))

    def entering(self, account: Account) -> LedgerRecord:
        """Return the record in a new period. The last account is kept, so that outcomes settle in it."""
        before = {self.account.period: self.account} if self.account.period > 0 else {}
        return replace(self, account=account, past={**self.past, **before})

    def forgetting(self, period: int) -> LedgerRecord:
        """Return the record without the accounts of periods up to this one."""
        if period <= self.forgotten:
            return self
        past = {number: account for number, account in self.past.items() if number > period}
        return replace(self, past=past, forgotten=period)

    def without_deleted(self, source: str, start: int, now: float, lost: int | None = None) -> LedgerRecord:
        """Return the record that continues at the start of a log, after records were deleted unread.

        Parameters
        ----------
        source : {"input", "outcomes", "returned"}
        start : int
            First offset that the log still has, beyond the record's own.
        now : float
            Seconds since the epoch.
        lost : int, optional
            Deleted offsets that may have been records; all before `start` by default.
        """
        position = {"input": "next", "outcomes": "outcomes_next", "returned": "returned_next"}[source]
        if lost is None:
            lost = start - int(getattr(self, position))
        known, _, at = self.deleted.get(source, (0, 0, 0.0))
        deleted = {**self.deleted, source: [known + lost, start, now if lost else at]}
        if source == "input":
            return replace(self, next=start, sampled=max(self.sampled, start), deleted=deleted)
        return replace(self, deleted=deleted).at_position(position, start)

    def at_position(self, position: str, offset: int) -> LedgerRecord:
        """Return the record with another offset; `position` is `outcomes_next` or `returned_next`."""
        change: dict[str, Any] = {position: offset}
        return replace(self, **change)

    # ---- the message -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without past accounts; arrays stay arrays, for orjson."""
        return {
            "format": FORMAT,
            "lane": self.lane,
            "models": self.models,
            "account": account_to_dict(self.account),
            "forgotten": self.forgotten,
            "next": self.next,
            "sampled": self.sampled,
            "outcomes_next": self.outcomes_next,
            "returned_next": self.returned_next,
            "reservations_from": self.reservations_from,
            "version": self.version,
            "revision": self.revision,
            "outcomes": self.outcomes,
            "returns": self.returns,
            "reported": {name: sums.to_list() for name, sums in self.reported.items()},
            "oldest_open": self.oldest_open,
            "residuals": {name: sums.to_list() for name, sums in self.residuals.items()},
            "exceeded": self.exceeded,
            "deleted": self.deleted,
            "written_at": self.written_at,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], past: Mapping[int, Account] | None = None) -> LedgerRecord:
        """Return the record of `to_dict`; unknown fields are ignored.

        Parameters
        ----------
        data : dict
        past : mapping of int to Account, optional
            Past accounts from the topic.

        Raises
        ------
        LedgerFormatError
            The record has another format.
        """
        if data.get("format") != FORMAT:
            raise LedgerFormatError(data.get("lane"), data.get("format"))
        decoded = {"models", "account", "past", "reported", "residuals"}
        known = {one.name for one in fields(cls)} - decoded
        plain = {key: value for key, value in data.items() if key in known}
        reported = {name: ReportedQuality(*sums) for name, sums in data.get("reported", {}).items()}
        residuals = {name: QualityResiduals.of(*sums) for name, sums in data.get("residuals", {}).items()}
        models = tuple(data["models"])
        account, past_accounts = account_from_dict(data["account"], models), dict(past or {})
        return cls(
            models=models,
            account=account,
            past=past_accounts,
            reported=reported,
            residuals=residuals,
            **plain,
        )

    def encode(self) -> bytes:
        """Encode the record as the value of a message with the key `lane_key`."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY)

    @classmethod
    def decode(cls, value: bytes, past: Mapping[int, Account] | None = None) -> LedgerRecord:
        """Decode a value of `encode`, and add past accounts."""
        return cls.from_dict(orjson.loads(value), past)

    def encode_account(self, period: int) -> bytes:
        """Encode a past account as the value of a message with the key `account_key`."""
        account = account_to_dict(self.past[period])
        data = {"format": FORMAT, "lane": self.lane, "models": self.models, "account": account}
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
