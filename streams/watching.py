"""Desks that are watched: what each transaction changed is told, after it was committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from confluent_kafka import KafkaException

from streams.backlog import Record
from streams.lanes import Desk
from streams.metrics import Metrics
from streams.planner import PlannerDesk
from streams.router import RouterDesk
from streams.tracing import Tracing


class WatchedDesk:
    """Passes everything on to another desk; `told` is called after each step that committed.

    Parameters
    ----------
    desk : Desk
    told : callable
        Gets the desk's state before the step, the records, and the step's seconds.
    state : callable
        The state to compare with: something that steps replace and never change.
    failed : callable
        Called after a step or an opening that the broker did not let through.
    """

    def __init__(
        self,
        desk: Desk,
        state: Callable[[], Any],
        told: Callable[[Any, list[Record], float], None],
        failed: Callable[[], None],
    ) -> None:
        self.desk, self._state, self._told, self._failed = desk, state, told, failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.desk, name)

    def open(self) -> None:
        """Fence former owners, then read what they committed."""
        try:
            self.desk.open()
        except KafkaException:
            self._failed()
            raise

    def look(self) -> None:
        """Take up the newest plan."""
        self.desk.look()

    @property
    def position(self) -> int:
        """Offset of the next record that the desk has to see."""
        return self.desk.position

    @property
    def limit(self) -> int:
        """Records that it may take now."""
        return self.desk.limit

    @property
    def restless(self) -> bool:
        """It has something to do without records."""
        return self.desk.restless

    def step(self, records: list[Record]) -> None:
        """Take in records in one transaction."""
        before, began = self._state(), time.perf_counter()
        try:
            self.desk.step(records)
        except KafkaException:
            self._failed()
            raise
        self._told(before, records, time.perf_counter() - began)

    def close(self) -> None:
        """Give up an open transaction and let go."""
        self.desk.close()


def watched_router(
    desk: RouterDesk, metrics: Metrics, failed: Callable[[], None], traces: Tracing | None = None
) -> Desk:
    """Count what its transactions change, and how long its queries took; make their spans."""

    def told(before: Any, records: list[Record], seconds: float) -> None:
        after = desk.record
        if after is before:
            return
        metrics.committed(before, after)
        if (decided := desk.decided) is None:
            return
        now = time.time()
        if final := decided.final_timestamps():
            metrics.latencies(now - np.array(final, dtype=np.float64) / 1000)
        if traces is not None:
            traces.committed(decided, now)

    return WatchedDesk(desk, lambda: desk.record, told, failed)


def watched_planner(
    desk: PlannerDesk, metrics: Metrics, failed: Callable[[], None], stepped: Callable[[], None]
) -> Desk:
    """Measure steps that led to new prices; `stepped` is called after every step."""

    def told(before: Any, records: list[Record], seconds: float) -> None:
        stepped()
        if desk.version != before:
            metrics.stage("solve", seconds, len(records))

    return WatchedDesk(desk, lambda: desk.version, told, failed)
