"""Messages of a lane's ledger that a transaction changes, beside the lane's record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from routing.policy.account import Account, changed_columns
from streams.ledger.account_format import account_key, counter_key
from streams.ledger.record import LedgerRecord


class LedgerChanges:
    """The accounts of a lane as they are on the ledger's topic.

    Parameters
    ----------
    lane : int
    """

    def __init__(self, lane: int) -> None:
        self._lane = lane
        self._accounts: Mapping[int, Account] = {}
        self._past: frozenset[int] = frozenset()
        """Periods that have a message of their own."""

    def opened(self, record: LedgerRecord, accounts: Mapping[int, Account]) -> None:
        """Begin with a lane's record as read from the topic, and all accounts that the topic holds."""
        self._accounts = dict(accounts)
        self._past = frozenset(period for period in accounts if period != record.account.period)

    def since(self, record: LedgerRecord) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield key and value of each message that a record changes; None deletes the message."""
        now = {account.period: account for account in record.accounts}
        for period in self._accounts.keys() - now.keys():
            if period in self._past:
                yield account_key(self._lane, period), None
            yield from self._deleted_counters(self._accounts[period])
        for period, account in now.items():
            before = self._accounts.get(period)
            if account is not before:
                yield from self._changed_counters(period, before, account)
            if period != record.account.period and (account is not before or period not in self._past):
                yield account_key(self._lane, period), record.encode_account(period)

    def written(self, record: LedgerRecord) -> None:
        """Record that the topic holds a record and its accounts."""
        self._accounts = {account.period: account for account in record.accounts}
        self._past = frozenset(record.past)

    def _changed_counters(
        self, period: int, before: Account | None, after: Account
    ) -> Iterator[tuple[bytes, bytes]]:
        counters = after.counters
        if counters is None or not counters.grouped.any():
            return
        if before is None:
            before = Account.fresh(period, len(after.served), counters)
        changed = changed_columns(before, after)
        columns = changed[counters.grouped[changed]]
        for column, state in zip(columns.tolist(), after.counter_states(columns), strict=True):
            yield counter_key(self._lane, period, counters.keys[column]), orjson.dumps(state)

    def _deleted_counters(self, account: Account) -> Iterator[tuple[bytes, None]]:
        counters = account.counters
        if counters is None:
            return
        for column in counters.grouped.nonzero()[0].tolist():
            if account.charged[column] or account.released[column] or account.seen[column]:
                yield counter_key(self._lane, account.period, counters.keys[column]), None
