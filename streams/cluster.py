"""The cluster as any worker sees it: every lane's ledger record, read from the compacted ledger topics."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Message

from streams.following import Follower
from streams.kafka import reader_config
from streams.ledger import LedgerRecord
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
        self._values: dict[int, bytes] = {}
        self._decoded: dict[int, tuple[bytes, LedgerRecord]] = {}
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
        found = {}
        for lane, value in list(self._values.items()):
            known = self._decoded.get(lane)
            if known is None or known[0] is not value:
                known = self._decoded[lane] = (value, LedgerRecord.decode(value))
            found[lane] = known[1]
        return found

    def _read(self, first: int) -> Callable[[Message], None]:
        def read(message: Message) -> None:
            if (value := message.value()) is not None:
                self._values[first + (message.partition() or 0)] = value
                self._on_change()

        return read
