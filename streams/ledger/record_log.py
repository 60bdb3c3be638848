"""Reading a lane's ledger: combine its record with its past accounts and counters, as committed."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import orjson

from routing.budgets.counters import CounterKey
from routing.policy.account import Account
from streams.ledger.account_format import GroupColumns, account_from_dict, counter_of, period_of
from streams.ledger.record import LedgerRecord

Part = tuple[int, CounterKey | None]
"""Period, and counter of a group; None for the account itself."""


class LedgerLog:
    """The state of one lane's ledger, from its messages in order.

    A transaction writes the accounts and counters that it changed, then the lane's record, which completes
    it. Threads may read the state while another appends messages.
    """

    def __init__(self) -> None:
        self._pending: dict[Part, bytes] = {}
        self._complete: tuple[bytes, Mapping[Part, bytes]] | None = None
        self._decoded: tuple[tuple[bytes, Mapping[Part, bytes]], LedgerRecord] | None = None
        self._accounts: dict[int, tuple[bytes, Account]] = {}
        self._columns: dict[int, GroupColumns] = {}
        self._lock = threading.Lock()
        self.loose = False
        """True if the last message was a part of a transaction, which a record must follow."""

    def append(self, key: bytes | None, value: bytes | None) -> bool:
        """Append a message; return True if it completes a new record of the lane."""
        period = period_of(key)
        if period is None:
            if value is not None:
                parts = self._complete[1] if self._complete is not None else {}
                self._complete = (value, dict(self._pending) if self.loose else parts)
                self.loose = False
            return value is not None
        self.loose = True
        part = (period, counter_of(key))
        if value is None:
            self._pending.pop(part, None)
        else:
            self._pending[part] = value
        return False

    def accounts(self) -> dict[int, Account]:
        """Return the accounts of which the topic holds a message, by period."""
        record = self.record()
        return {} if record is None else {account.period: account for account in record.accounts}

    def record(self) -> LedgerRecord | None:
        """Return the lane's record, or None. Unchanged accounts are the same objects as before."""
        with self._lock:  # columns are updated in place
            complete = self._complete
            if complete is None:
                return None
            if self._decoded is None or self._decoded[0] is not complete:
                self._decoded = (complete, self._decode(*complete))
            return self._decoded[1]

    def _decode(self, value: bytes, parts: Mapping[Part, bytes]) -> LedgerRecord:
        groups: defaultdict[int, dict[CounterKey, bytes]] = defaultdict(dict)
        past: dict[int, bytes] = {}
        for (period, counter), content in parts.items():
            if counter is None:
                past[period] = content
            else:
                groups[period][counter] = content
        self._columns = {period: self._columns.get(period) or GroupColumns(period) for period in groups}
        for period, records in groups.items():
            self._columns[period].update(records)
        self._accounts = {period: self._past_account(period, past[period]) for period in sorted(past)}
        past_accounts = {period: self._merged(account) for period, (_, account) in self._accounts.items()}
        record = LedgerRecord.decode(value, past_accounts)
        return replace(record, account=self._merged(record.account))

    def _past_account(self, period: int, value: bytes) -> tuple[bytes, Account]:
        known = self._accounts.get(period)
        if known is not None and known[0] is value:
            return known
        data = orjson.loads(value)
        return value, account_from_dict(data["account"], tuple(data["models"]))

    def _merged(self, account: Account) -> Account:
        columns = self._columns.get(account.period)
        return account if columns is None else columns.merged(account)
