"""View of the cluster: every lane's ledger record, followed on the compacted ledger topics."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Message

from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.follower import Follower
from streams.ledger.record import LedgerRecord
from streams.ledger.record_log import LedgerLog


class LedgerView:
    """Follows the ledgers. Records are decoded on access.

    Parameters
    ----------
    settings : Settings
    overflow : bool
        True if there is an overflow lane, whose ledger is a topic of its own.
    on_change : callable, optional
        Called in a reader's thread after a lane committed.
    """

    def __init__(
        self, settings: Settings, overflow: bool, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._on_change = on_change
        self._logs: dict[int, LedgerLog] = {}
        config, topics = reader_config(settings), settings.topics
        self._followers = [Follower(config, topics.ledger, settings.partitions, self._read(0))]
        if overflow:
            self._followers.append(
                Follower(config, topics.overflow_ledger, 1, self._read(settings.partitions))
            )

    def start(self) -> None:
        """Start following."""
        for follower in self._followers:
            follower.start()

    def stop(self) -> None:
        """Stop following."""
        for follower in self._followers:
            follower.stop()

    @property
    def ready(self) -> bool:
        """True once every ledger was read to its end."""
        return all(follower.ready.is_set() for follower in self._followers)

    @property
    def failure(self) -> BaseException | None:
        """The error that ended one of the readers, or None."""
        return next((f.failure for f in self._followers if f.failure is not None), None)

    def records(self) -> dict[int, LedgerRecord]:
        """Return the newest record of each lane that has one, by lane."""
        records = {lane: ledger.record() for lane, ledger in list(self._logs.items())}
        return {lane: record for lane, record in records.items() if record is not None}

    def _read(self, first: int) -> Callable[[Message], None]:
        def read(message: Message) -> None:
            lane = first + (message.partition() or 0)
            if self._logs.setdefault(lane, LedgerLog()).append(message.key(), message.value()):
                self._on_change()

        return read
