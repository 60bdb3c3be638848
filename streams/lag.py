"""How far the router is behind: the ends of its inputs as the broker has them, asked for now and then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.ledger import LedgerRecord
from streams.settings import Settings
from streams.troubles import Trouble

SILENCE = {
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
}


@dataclass(frozen=True)
class Lag:
    """Queries that wait.

    Parameters
    ----------
    by_lane : dict of int to int
        Offsets between a lane's position and the end of what is committed. In warm-up the waiting queries
        are in it; a marker that ends a producer's transaction may be, too.
    dead_letters : dict of str to int
        Offsets that each dead-letter topic holds, replayed letters and markers included; without those of
        which the broker has not told yet.
    """

    by_lane: dict[int, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Over all lanes."""
        return sum(self.by_lane.values())

    @property
    def worst(self) -> int:
        """Of the lane that is furthest behind."""
        return max(self.by_lane.values(), default=0)


class LagReader:
    """Asks the broker for the ends of topics.

    Parameters
    ----------
    settings : Settings
    admin : AdminClient
    overflow : bool
        There is an overflow lane.
    """

    def __init__(self, settings: Settings, admin: AdminClient, overflow: bool) -> None:
        self._settings, self._admin, self._overflow = settings, admin, overflow
        self._ends: dict[tuple[str, int], int] = {}
        self._starts: dict[tuple[str, int], int] = {}
        # asked every few seconds by every worker, so it is here that a broker's absence is told
        self._away = Trouble("broker_away", "broker_back")
        self._unknown = Trouble("lag_not_known", "lag_known")

    def refresh(self) -> None:
        """Ask; what the broker does not say stays as it was. To be called in a thread."""
        topics = self._settings.topics
        inputs = [TopicPartition(topics.queries, number) for number in range(self._settings.partitions)]
        if self._overflow:
            inputs.append(TopicPartition(topics.overflow, 0))
        letters = [TopicPartition(topics.dlq, 0), TopicPartition(topics.outcomes_dlq, 0)]
        told = self._ask([*inputs, *letters], OffsetSpec.latest(), self._ends)
        if self._ask(letters, OffsetSpec.earliest(), self._starts) and told:
            self._away.ended()
            self._unknown.ended()

    def lag(self, ledgers: Mapping[int, LedgerRecord]) -> Lag:
        """What was asked last, against what the lanes have committed."""
        topics, count = self._settings.topics, self._settings.partitions
        by_lane = {}
        for (topic, partition), end in list(self._ends.items()):
            if topic not in (topics.queries, topics.overflow):
                continue
            lane = count if topic == topics.overflow else partition
            record = ledgers.get(lane)
            by_lane[lane] = max(0, end - (record.next if record is not None else 0))
        if count in by_lane:
            by_lane[count] = min(by_lane[count], _deferred(ledgers, count))
        letters = {}
        for name, topic in (("queries", topics.dlq), ("outcomes", topics.outcomes_dlq)):
            place = (topic, 0)
            # a zero instead would make of old letters, a moment later, as many new ones
            if place in self._starts and place in self._ends:
                letters[name] = max(0, self._ends[place] - self._starts[place])
        return Lag(dict(sorted(by_lane.items())), letters)

    def _ask(self, places: list[TopicPartition], spec: OffsetSpec, into: dict[tuple[str, int], int]) -> bool:
        """Whether all was told."""
        try:
            futures = self._admin.list_offsets(
                dict.fromkeys(places, spec),
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=5,
            )
            for place, future in futures.items():
                into[(place.topic, place.partition)] = future.result(6).offset
        except (KafkaException, TimeoutError) as error:
            away = isinstance(error, TimeoutError) or error.args[0].code() in SILENCE
            # else it answers: a partition has another leader now, or it may not be looked at
            (self._away if away else self._unknown).happened(reason=repr(error)[:200])
            return False
        return True


def _deferred(ledgers: Mapping[int, LedgerRecord], pool: int) -> int:
    """Queries that lanes deferred and the overflow lane has not taken: its input is full of markers."""
    deferred = taken = 0
    forgotten = max((record.forgotten for record in ledgers.values()), default=0)
    for lane, record in ledgers.items():
        for account in record.accounts:
            if account.period <= forgotten:
                continue  # some lanes do not count it any more
            if lane == pool:
                taken += account.arrived + account.dead
            else:
                deferred += account.deferred
    return max(0, deferred - taken)
