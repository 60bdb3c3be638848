"""Health: a worker is live while it makes progress or has nothing to do, and ready once it can route."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.lanes import Lanes
from streams.troubles import Trouble

PATIENCE_SECONDS = 60.0
"""How long a lane may stand still with something to do. A batch takes a second or so, a reload a few."""

ASSIGN_SECONDS = 120.0
"""How long a worker may be without an assignment; a rebalance takes as long as the slowest member."""

CONFIRM_SECONDS = 15.0
"""How long the broker must have had records for a lane that fetches none."""

ASK_SECONDS = 5.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All of them, and whether they are all well."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"ok": self.ok, "checks": [vars(check) for check in self.checks]}


class Reader(Protocol):
    """Something that follows a topic for ever."""

    @property
    def ready(self) -> bool:
        """It was at the topic's end once."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """What it died of."""
        ...


Place = tuple[str, int]

Asks = Callable[[Mapping[Place, int]], set[Place]]
"""Which partitions have a committed record at or after an offset; unknown is no."""


@dataclass
class Watch:
    """What was seen of a lane; times are those of the clock.

    Parameters
    ----------
    position : int or None
        None while it is not open.
    moved_at : float
        When the position changed last, or when it was known that there is nothing to do.
    blocked_since : float or None
        Since when it has had records, or has been opening, without moving.
    missed_since : float or None
        Since when it is known that the broker has records which it does not fetch.
    """

    position: int | None
    moved_at: float
    blocked_since: float | None = None
    missed_since: float | None = None


class Health:
    """Looks at a worker's lanes and readers.

    Parameters
    ----------
    lanes : callable
        The worker's lanes, None before they are made.
    readers : mapping of str to Reader
        Plans and ledgers, by name.
    has_plan : callable
        Whether a plan is in force.
    has_records : callable
        See `Asks`; called in a thread.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        lanes: Callable[[], Lanes | None],
        readers: Mapping[str, Reader],
        has_plan: Callable[[], bool],
        has_records: Asks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes, self._readers, self._has_plan = lanes, readers, has_plan
        self._has_records, self._clock = has_records, clock
        self._watched: dict[Place, Watch] = {}
        self._assigned_at = clock()

    def look(self) -> None:
        """Remember which lanes have moved; to be called every second or so, in the lanes' loop."""
        lanes, now = self._lanes(), self._clock()
        if lanes is None:
            return
        if lanes.gate.is_set():
            self._assigned_at = now
        mine = {key: lane for key, lane in lanes.all.items() if lane.assigned}
        self._watched = {key: watch for key, watch in self._watched.items() if key in mine}
        for key, lane in mine.items():
            position = lane.desk.position if lane.open else None
            watch = self._watched.get(key)
            # one that waits for a plan may not go on: it has nothing to do
            if watch is None or watch.position != position or (lane.open and lane.desk.limit == 0):
                watch = self._watched[key] = Watch(position, now)
            if not (lane.pending or not lane.open):
                watch.blocked_since = None
            elif watch.blocked_since is None:
                watch.blocked_since = now

    async def live(self) -> Verdict:
        """Whether it makes progress or has nothing to do; a restart would help where it does not."""
        checks = [
            Check(f"{name} followed", reader.failure is None, str(reader.failure or "yes"))
            for name, reader in self._readers.items()
        ]
        checks.append(await self._moves())
        checks.append(self._was_assigned())
        return Verdict(tuple(checks))

    def ready(self) -> Verdict:
        """Whether it can route: what it routes by is loaded, and its partitions are open."""
        lanes = self._lanes()
        checks = [Check("history and index", True, "loaded")]
        checks += [
            Check(f"{name} read", reader.ready, "to the end" if reader.ready else "still being read")
            for name, reader in self._readers.items()
        ]
        checks.append(Check("plan", self._has_plan(), "in force" if self._has_plan() else "none yet"))
        assigned = lanes is not None and lanes.gate.is_set()
        mine = [lane for lane in lanes.all.values() if lane.assigned] if lanes is not None else []
        checks.append(
            Check("partitions assigned", assigned, f"{len(mine)} lanes" if assigned else "rebalancing")
        )
        shut = sorted(f"{lane.topic}:{lane.partition}" for lane in mine if not lane.open)
        checks.append(
            Check("ledgers recovered", not shut, f"waiting for {', '.join(shut)}" if shut else "yes")
        )
        return Verdict(tuple(checks))

    async def _moves(self) -> Check:
        now = self._clock()
        for key, watch in self._watched.items():
            if watch.blocked_since is not None and now - watch.blocked_since > PATIENCE_SECONDS:
                return _still(key, now - watch.blocked_since)
        quiet = {
            key: watch.position
            for key, watch in self._watched.items()
            if watch.position is not None and now - watch.moved_at > PATIENCE_SECONDS
        }
        if quiet:
            loop = asyncio.get_running_loop()
            missed = await loop.run_in_executor(None, self._has_records, quiet)
            for key in quiet.keys() & self._watched.keys():
                watch = self._watched[key]
                if key not in missed:
                    watch.moved_at, watch.missed_since = now, None
                elif watch.missed_since is None:
                    watch.missed_since = now  # it may have come this moment
                elif now - watch.missed_since > CONFIRM_SECONDS:
                    return _still(key, now - watch.moved_at)
        return Check("progress", True, "made, or nothing to do")

    def _was_assigned(self) -> Check:
        away = self._clock() - self._assigned_at
        return Check(
            "assignment", away < ASSIGN_SECONDS, f"last had {away:.0f} s ago" if away > 1 else "held"
        )


def _still(place: Place, seconds: float) -> Check:
    return Check(
        "progress", False, f"{place[0]}:{place[1]} stands still for {seconds:.0f} s, with work to do"
    )


def asks_broker(config: Mapping[str, Any]) -> Asks:
    """Asks by reading: offsets alone do not tell, for aborted records and markers have offsets too.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.reader_config`.
    """

    trouble = Trouble("health_not_known", "health_known")

    def has_records(places: Mapping[Place, int]) -> set[Place]:
        found: set[Place] = set()
        asked = set(places)
        deadline = time.monotonic() + ASK_SECONDS
        try:
            with closing(Consumer(dict(config) | {"fetch.max.bytes": 2**20})) as consumer:
                consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])
                while asked and time.monotonic() < deadline:
                    for message in consumer.consume(500, 0.5):
                        error = message.error()
                        place = (message.topic() or "", message.partition() or 0)
                        if error is None:
                            found.add(place)
                        if error is None or error.code() == KafkaError._PARTITION_EOF:
                            asked.discard(place)
        except KafkaException as error:
            # to start again would not mend a broker that is away
            trouble.happened(reason=str(error))
        else:
            trouble.ended()
        return found

    return has_records
