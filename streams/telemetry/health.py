"""Health checks: a worker is live while its lanes progress or are idle, and ready while it can route."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streams.kafka.record_probe import Place, RecordProbe
from streams.lanes.lanes import Lanes
from streams.lanes.unreadable import Unreadable

PATIENCE_SECONDS = 60.0
"""Maximum time that a lane with work may stand still. A batch takes about a second, a reload a few."""

ASSIGN_SECONDS = 120.0
"""Maximum time without an assignment; a rebalance takes as long as its slowest member."""

CONFIRM_SECONDS = 15.0
"""Minimum time for which the broker has records that a lane does not fetch."""


@dataclass(frozen=True)
class HealthCheck:
    """Result of one check."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class HealthReport:
    """Results of all checks.

    Parameters
    ----------
    checks : tuple of HealthCheck
    warnings : tuple of str
        Problems that do not make the worker unhealthy.
    """

    checks: tuple[HealthCheck, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """All checks passed."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        checks = [vars(check) for check in self.checks]
        return {"ok": self.ok, "checks": checks, "warnings": list(self.warnings)}


class Reader(Protocol):
    """Thread that follows a topic."""

    @property
    def ready(self) -> bool:
        """The reader has reached the topic's end once."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the reader."""
        ...


@dataclass
class LaneActivity:
    """Observed activity of a lane; times are those of the clock.

    Parameters
    ----------
    position : int or None
        None while the lane is not open.
    moved_at : float
        Time of the last change of the position, or of the last confirmation that the lane is idle.
    blocked_since : float or None
        Time since which the lane has had records, or has been opening, without progress.
    missed_since : float or None
        Time since which the broker has had records that the lane does not fetch.
    """

    position: int | None
    moved_at: float
    blocked_since: float | None = None
    missed_since: float | None = None


class Health:
    """Observes a worker's lanes and readers.

    Parameters
    ----------
    lanes : callable
        Returns the worker's lanes, or None before they exist.
    readers : mapping of str to Reader
        Plans and ledgers, by name.
    has_plan : callable
        Returns True if a plan is in force.
    has_records : callable
        See `streams.kafka.record_probe.RecordProbe`; called in a thread.
    clock : callable
        Monotonic seconds.
    unreadable : callable
        Returns partitions whose next records cannot be read. A restart does not help: the worker is live, but
        not ready.
    missing : callable
        Returns missing topics that routing depends on.
    warnings : callable
        Returns problems that do not make the worker unhealthy.
    """

    def __init__(
        self,
        lanes: Callable[[], Lanes | None],
        readers: Mapping[str, Reader],
        has_plan: Callable[[], bool],
        has_records: RecordProbe,
        clock: Callable[[], float] = time.monotonic,
        *,
        unreadable: Callable[[], Mapping[Place, Unreadable]] = dict,
        missing: Callable[[], Sequence[str]] = tuple,
        warnings: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._missing, self._warnings = missing, warnings
        self._lanes, self._readers, self._has_plan = lanes, readers, has_plan
        self._has_records, self._unreadable, self._clock = has_records, unreadable, clock
        self._watched: dict[Place, LaneActivity] = {}
        self._assigned_at = clock()

    def observe_lanes(self) -> None:
        """Observe the lanes' positions; call it about every second in the lanes' loop."""
        lanes, now = self._lanes(), self._clock()
        if lanes is None:
            return
        if lanes.gate.is_set():
            self._assigned_at = now
        own = {key: lane for key, lane in lanes.all.items() if lane.assigned}
        self._watched = {key: watch for key, watch in self._watched.items() if key in own}
        for key, lane in own.items():
            position = lane.processor.next_offset if lane.open else None
            watch = self._watched.get(key)
            # a lane that waits for a plan is idle
            if watch is None or watch.position != position or (lane.open and lane.processor.max_records == 0):
                watch = self._watched[key] = LaneActivity(position, now)
            if not (lane.pending or not lane.open):
                watch.blocked_since = None
            elif watch.blocked_since is None:
                watch.blocked_since = now

    async def live(self) -> HealthReport:
        """Return whether the worker is live; a restart would help if it is not."""
        checks = [
            HealthCheck(f"{name} followed", reader.failure is None, str(reader.failure or "yes"))
            for name, reader in self._readers.items()
        ]
        checks.append(await self._moves())
        checks.append(self._was_assigned())
        checks.append(self._topics())
        return HealthReport(tuple(checks), tuple(self._warnings()))

    def ready(self) -> HealthReport:
        """Return whether the worker can route: history and plan are loaded, and its partitions are open."""
        lanes = self._lanes()
        checks = [HealthCheck("history and index", True, "loaded")]
        checks += [
            HealthCheck(f"{name} read", reader.ready, "to the end" if reader.ready else "still being read")
            for name, reader in self._readers.items()
        ]
        checks.append(HealthCheck("plan", self._has_plan(), "in force" if self._has_plan() else "none yet"))
        assigned = lanes is not None and lanes.gate.is_set()
        own = [lane for lane in lanes.all.values() if lane.assigned] if lanes is not None else []
        checks.append(
            HealthCheck("partitions assigned", assigned, f"{len(own)} lanes" if assigned else "rebalancing")
        )
        shut = sorted(f"{lane.topic}:{lane.partition}" for lane in own if not lane.open)
        checks.append(
            HealthCheck("ledgers recovered", not shut, f"waiting for {', '.join(shut)}" if shut else "yes")
        )
        unreadable = self._unreadable()
        shown = "; ".join(
            f"{topic}:{number} {reason}" for (topic, number), reason in sorted(unreadable.items())
        )
        checks.append(HealthCheck("partitions readable", not unreadable, shown or "yes"))
        checks += [self._topics(), self._dead_letters()]
        return HealthReport(tuple(checks), tuple(self._warnings()))

    def _topics(self) -> HealthCheck:
        """Check that no topic is missing or was replaced."""
        lanes, missing = self._lanes(), self._missing()
        if lanes is not None and lanes.halted and lanes.halted_by == "topics":
            return HealthCheck("topics", False, f"routing has stopped: {lanes.halted}")
        if missing:
            return HealthCheck("topics", False, f"{', '.join(missing)} missing")
        return HealthCheck("topics", True, "as they were")

    def _dead_letters(self) -> HealthCheck:
        """Check the share of dead letters.

        Only readiness depends on it: after a restart the next queries would become dead letters.
        """
        lanes = self._lanes()
        if lanes is not None and lanes.halted and lanes.halted_by == "dead letters":
            return HealthCheck("dead letters", False, f"routing has stopped: {lanes.halted}")
        return HealthCheck("dead letters", True, "below PORT_DLQ_LIMIT")

    async def _moves(self) -> HealthCheck:
        now = self._clock()
        for key, watch in self._watched.items():
            if watch.blocked_since is not None and now - watch.blocked_since > PATIENCE_SECONDS:
                return _stalled(key, now - watch.blocked_since)
        unreadable = self._unreadable()
        quiet = {
            key: watch.position
            for key, watch in self._watched.items()
            if watch.position is not None
            and now - watch.moved_at > PATIENCE_SECONDS
            and key not in unreadable
        }
        if quiet:
            loop = asyncio.get_running_loop()
            waiting = await loop.run_in_executor(None, self._has_records, quiet)
            for key in quiet.keys() & self._watched.keys():
                watch = self._watched[key]
                if key not in waiting:
                    watch.moved_at, watch.missed_since = now, None
                elif watch.missed_since is None:
                    watch.missed_since = now  # the record may have just arrived
                elif now - watch.missed_since > CONFIRM_SECONDS:
                    return _stalled(key, now - watch.moved_at)
        return HealthCheck("progress", True, "made, or nothing to do")

    def _was_assigned(self) -> HealthCheck:
        away = self._clock() - self._assigned_at
        return HealthCheck(
            "assignment", away < ASSIGN_SECONDS, f"last had {away:.0f} s ago" if away > 1 else "held"
        )


def _stalled(place: Place, seconds: float) -> HealthCheck:
    return HealthCheck(
        "progress", False, f"{place[0]}:{place[1]} stands still for {seconds:.0f} s, with work to do"
    )
