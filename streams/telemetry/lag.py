"""Lag of the router: the ends of its inputs, polled from the broker, against the positions of its lanes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.config.log_throttling import RecurringProblem
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient
from streams.kafka.broker_watch import BrokerWatch
from streams.kafka.clients import reader_config
from streams.kafka.record_probe import Place, ends_without_records
from streams.ledger.record import LedgerRecord


@dataclass(frozen=True)
class Lag:
    """Number of waiting queries.

    Parameters
    ----------
    by_lane : dict of int to int
        Offsets between a lane's position and the end of its input, if there are records in between. The lag
        includes queries that wait during warm-up, and all records from a client's open transaction on.
    """

    by_lane: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Lag over all lanes."""
        return sum(self.by_lane.values())

    @property
    def worst(self) -> int:
        """Lag of the lane that is furthest behind."""
        return max(self.by_lane.values(), default=0)


class LagReader:
    """Polls the ends of topics, and returns the lag.

    Parameters
    ----------
    settings : Settings
    admin : AdminClient
    overflow : bool
        The router has an overflow lane.
    broker : BrokerWatch
        Reports broker outages.
    """

    def __init__(self, settings: Settings, admin: AdminClient, overflow: bool, broker: BrokerWatch) -> None:
        self._settings, self._admin, self._overflow, self._broker = settings, admin, overflow, broker
        self._ends: dict[Place, int] = {}
        self._committed_ends: dict[Place, int] = {}
        self._past_markers: dict[Place, tuple[int, int]] = {}
        """Newest range of offsets without a committed record, by partition."""
        self._seen: dict[Place, int] = {}
        self._record_at: dict[Place, int] = {}
        """Positions after which a record waits, by partition."""
        self._unknown = RecurringProblem("lag_not_known", "lag_known")

    def refresh(self, ledgers: Mapping[int, LedgerRecord]) -> None:
        """Poll the broker; values that it does not return stay unchanged. Call it in a thread.

        Parameters
        ----------
        ledgers : mapping of int to LedgerRecord
            By lane; each has the lane's position.
        """
        if not self._broker.check():
            return
        topics = self._settings.topics
        queries = [TopicPartition(topics.queries, number) for number in range(self._settings.partitions)]
        inputs = [*queries, *([TopicPartition(topics.overflow, 0)] if self._overflow else [])]
        committed, everything = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED
        if (
            self._list_offsets(inputs, OffsetSpec.latest(), everything, self._ends)
            and self._list_offsets(queries, OffsetSpec.latest(), committed, self._committed_ends)
            and self._probe_past_markers(ledgers)
        ):
            self._unknown.resolved()

    def lag(self, ledgers: Mapping[int, LedgerRecord]) -> Lag:
        """Return the lag by the last poll and the lanes' committed positions."""
        topics, count = self._settings.topics, self._settings.partitions
        by_lane = {}
        for (topic, partition), end in list(self._ends.items()):
            if topic not in (topics.queries, topics.overflow):
                continue
            lane = count if topic == topics.overflow else partition
            by_lane[lane] = max(0, end - self._position((topic, partition), _next_offset(ledgers, lane)))
        if count in by_lane:
            by_lane[count] = min(by_lane[count], _deferred(ledgers, count))
        return Lag(dict(sorted(by_lane.items())))

    def _list_offsets(
        self, places: list[TopicPartition], spec: OffsetSpec, level: IsolationLevel, into: dict[Place, int]
    ) -> bool:
        """Request offsets, and return True if the broker returned all."""
        try:
            futures = self._admin.list_offsets(
                dict.fromkeys(places, spec), isolation_level=level, request_timeout=5
            )
            for place, future in futures.items():
                into[(place.topic, place.partition)] = future.result(6).offset
        except (KafkaException, TimeoutError) as error:
            return self._failed(error)
        return True

    def _failed(self, error: Exception) -> bool:
        """Log a failed request, unless the broker is unreachable; return False."""
        if self._broker.check():
            # a partition has a new leader, or this client lacks permission
            self._unknown.occurred(reason=repr(error)[:200])
        return False

    def _probe_past_markers(self, ledgers: Mapping[int, LedgerRecord]) -> bool:
        """Probe for records between the position of each idle lane and the end of its input."""
        positions = {}
        for place, end in self._committed_ends.items():
            position = self._position(place, _next_offset(ledgers, place[1]))
            # lanes that progress are probed later; lanes with a waiting record are known to be behind
            stands = self._seen.get(place) == position
            self._seen[place] = position
            if stands and position < end and self._record_at.get(place) != position:
                positions[place] = position
        try:
            ends = ends_without_records(reader_config(self._settings), positions) if positions else {}
        except KafkaException as error:
            return self._failed(error)
        for place, empty_until in ends.items():
            if empty_until is None:
                self._record_at[place] = positions[place]
            else:
                begin, end = self._past_markers.get(place, (0, 0))
                begin = begin if end == positions[place] else positions[place]
                self._past_markers[place] = (begin, empty_until)
        return True

    def _position(self, place: Place, following: int) -> int:
        """Return the offset of the next record that may wait, for a lane that goes on at `following`."""
        begin, end = self._past_markers.get(place, (0, 0))
        return end if begin <= following < end else following


def _next_offset(ledgers: Mapping[int, LedgerRecord], lane: int) -> int:
    record = ledgers.get(lane)
    return 0 if record is None else record.next


def _deferred(ledgers: Mapping[int, LedgerRecord], pool: int) -> int:
    """Return the deferred queries that wait; the overflow topic's offsets include markers of transactions."""
    deferred = processed = 0
    forgotten = max((record.forgotten for record in ledgers.values()), default=0)
    for lane, record in ledgers.items():
        for account in record.accounts:
            if account.period <= forgotten:
                continue  # some lanes no longer have this account
            if lane == pool:
                processed += account.arrived + account.dead
            else:
                deferred += account.deferred
    return max(0, deferred - processed)
