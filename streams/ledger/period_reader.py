"""Follows the bills of periods on their topic."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from confluent_kafka import Message

from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.follower import TopicReader
from streams.ledger.period_messages import is_counter_key
from streams.ledger.period_summary import PeriodSummary, decode_period
from streams.ledger.record import LedgerRecord

MAX_KEPT_PERIODS = 24
"""Newest periods that are kept in full."""

REFUSED_KINDS = ("late", "unknown", "contradictory", "refused")
"""Results of outcomes that become dead letters."""


class PeriodReader(TopicReader):
    """Follows the topic of periods.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(reader_config(settings), settings.topics.periods)
        self._newest: dict[int, PeriodSummary] = {}
        self._dead: dict[int, int] = {}
        self._lock = threading.Lock()

    def newest(self) -> list[PeriodSummary]:
        """Return the newest periods, oldest first, without the values of grouped budgets."""
        with self._lock:
            return [self._newest[number] for number in sorted(self._newest)]

    def dead_letters(self, ledgers: Mapping[int, LedgerRecord]) -> dict[str, int]:
        """Return the number of dead letters since the beginning, by the topic of the rejected records.

        Parameters
        ----------
        ledgers : mapping of int to LedgerRecord
            By lane. They include dead letters that are not on a bill yet.

        Returns
        -------
        dict of str to int
            Empty until the topic of periods was read. A count over a part of it would later seem to grow.
        """
        if not self.ready:
            return {}
        current: dict[int, int] = {}
        outcomes = 0
        for ledger in ledgers.values():
            outcomes += sum(ledger.outcomes.get(kind, 0) for kind in REFUSED_KINDS)
            for account in ledger.accounts:
                current[account.period] = current.get(account.period, 0) + account.dead
        with self._lock:
            billed = dict(self._dead)
        queries = sum(max(billed.get(n, 0), current.get(n, 0)) for n in billed.keys() | current.keys())
        return {"queries": queries, "outcomes": outcomes}

    def _read(self, message: Message) -> None:
        if (value := message.value()) is None or is_counter_key(message.key()):
            return
        summary = decode_period(value)
        with self._lock:
            self._newest[summary.period] = summary
            self._dead[summary.period] = summary.dead
            if len(self._newest) > MAX_KEPT_PERIODS:
                del self._newest[min(self._newest)]
