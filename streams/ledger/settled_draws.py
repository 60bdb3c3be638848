"""Settlement of reservations in accounts: each returns to, and charges, the counters that it drew on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from routing.arrays import IntArray
from routing.budgets.counters import UNKNOWN
from routing.policy.account import Account
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch


class SettledQuery(NamedTuple):
    """A settled reservation: its batch and row, and the tokens that the answer used; None if unknown."""

    batch: ReservationBatch
    row: int
    tokens: int | None = None


def settle_queries(record: LedgerRecord, queries_settled: Sequence[SettledQuery]) -> LedgerRecord:
    """Return the record after reservations were settled by their `paid`, each in its own period.

    Parameters
    ----------
    record : LedgerRecord
    queries_settled : sequence of SettledQuery
    """
    by_period: defaultdict[int, list[SettledQuery]] = defaultdict(list)
    for one in queries_settled:
        by_period[one.batch.period].append(one)
    for period, queries in by_period.items():
        account = record.account_of(period)
        if account is not None:
            record = record.with_account(_settle(account, record.models, queries))
    return record


def _settle(account: Account, models: tuple[str, ...], queries: Sequence[SettledQuery]) -> Account:
    rows = [(one.batch.model[one.row], one.batch.charge[one.row], one.batch.paid[one.row]) for one in queries]
    model, reserved, actual = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    if account.counters is None:
        return account.settle(model, reserved, actual)
    columns = np.array([_columns(account, models, one) for one in queries], dtype=np.int64)
    before = [int(one.batch.tokens[one.row]) if len(one.batch.tokens) else 0 for one in queries]
    used = [tokens if one.tokens is None else one.tokens for one, tokens in zip(queries, before, strict=True)]
    tokens = np.array(before, dtype=np.int64), np.array(used, dtype=np.int64)
    columns = columns.reshape(len(queries), len(account.counters.budgets))
    return account.settle(model, reserved, actual, columns, tokens)


def _columns(account: Account, models: tuple[str, ...], query: SettledQuery) -> IntArray:
    """Return the column of each budget's counter in an account, negative for none, shape [B]."""
    counters, batch = account.counters, query.batch
    assert counters is not None, "the caller has an account with counters"
    columns = np.full(len(counters.budgets), UNKNOWN, dtype=np.int64)
    if batch.counters is None:
        # reserved before the catalogue got other budgets: the LLM's own budget
        keys = [(models[int(batch.model[query.row])], None)]
    else:
        keys = [batch.counters[position] for position in batch.columns[query.row] if position >= 0]
    for key in keys:
        if (column := counters.column_of.get(key)) is not None:
            columns[counters.budget_of[column]] = column
    return columns
