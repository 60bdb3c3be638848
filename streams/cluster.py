"""The cluster as any worker sees it: every lane's ledger record, read from the compacted ledger topics."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Message

from streams.following import Follower
from streams.kafka import reader_config
from streams.ledger import LedgerRecord
from streams.ledger_log import LedgerLog
from streams.settings import Settings


class LedgerView:
    """Follows the ledgers; records are decoded when they are asked for.

    Parameters
    ----------
    settings : Settings
    overflow : bool
        There is an overflow lane, whose ledger is a topic of its own.
    on_change : callable, optional
        Called in a reader's thread when a lane has committed.
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
        """Every ledger was read to its end once."""
        return all(follower.ready.is_set() for follower in self._followers)

    @property
    def failure(self) -> BaseException | None:
        """What one of the readers died of."""
        return next((f.failure for f in self._followers if f.failure is not None), None)

    def records(self) -> dict[int, LedgerRecord]:
        """The newest record of each lane that has one, by lane."""
        found = {lane: ledger.record() for lane, ledger in list(self._logs.items())}
        return {lane: record for lane, record in found.items() if record is not None}

    def _read(self, first: int) -> Callable[[Message], None]:
        def read(message: Message) -> None:
            lane = first + (message.partition() or 0)
            if self._logs.setdefault(lane, LedgerLog()).take(message.key(), message.value()):
                self._on_change()

        return read
