"""Reading a lane's ledger: its record and its accounts of periods before, put together as committed."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from routing.account import Account
from streams.ledger import LedgerRecord, account_from_dict, period_of


class LedgerLog:
    """What the messages of one lane's ledger come to, taken in order.

    A transaction writes the accounts that it changed, and then the lane's record: with that one all are told
    of. May be asked in one thread while another takes messages in.
    """

    def __init__(self) -> None:
        self._coming: dict[int, bytes] = {}
        self._told: tuple[bytes, Mapping[int, bytes]] | None = None
        self._decoded: tuple[tuple[bytes, Mapping[int, bytes]], LedgerRecord] | None = None
        self._accounts: dict[int, tuple[bytes, Account]] = {}
        self.loose = False
        """The last message was an account, which a record must follow."""

    def take(self, key: bytes | None, value: bytes | None) -> bool:
        """Take in a message; whether the lane's record is another one now."""
        period = period_of(key)
        if period is None:
            if value is not None:
                known = self._told[1] if self._told is not None else {}
                self._told = (value, dict(self._coming) if self.loose else known)
                self.loose = False
            return value is not None
        self.loose = True
        if value is None:
            self._coming.pop(period, None)
        else:
            self._coming[period] = value
        return False

    def accounts(self) -> dict[int, Account]:
        """Accounts of periods before that have a message of their own, by period."""
        return self._decode_accounts(self._told[1] if self._told is not None else {})

    def record(self) -> LedgerRecord | None:
        """The lane's record; None while there is none. What did not change since is the same object."""
        told = self._told
        if told is None:
            return None
        if self._decoded is None or self._decoded[0] is not told:
            self._decoded = (told, LedgerRecord.decode(told[0], self._decode_accounts(told[1])))
        return self._decoded[1]

    def _decode_accounts(self, values: Mapping[int, bytes]) -> dict[int, Account]:
        known, found = self._accounts, {}
        for period in sorted(values):
            value = values[period]
            before = known.get(period)
            if before is None or before[0] is not value:
                before = (value, account_from_dict(orjson.loads(value)["account"]))
            found[period] = before
        self._accounts = found
        return {period: account for period, (_, account) in found.items()}
