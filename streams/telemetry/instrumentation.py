"""Instrumentation of processors: reports metrics and traces after each commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from confluent_kafka import KafkaException

from streams.lanes.processor import LaneProcessor
from streams.messages.record import Record
from streams.planner.planner import PlannerProcessor
from streams.router.batch import LaneCommit
from streams.router.router import RouterProcessor
from streams.telemetry.metrics import Metrics
from streams.telemetry.tracing import Tracing

Result = TypeVar("Result")


class InstrumentedProcessor(Generic[Result]):
    """A processor whose calls are passed on to another one, and whose results are observed.

    Parameters
    ----------
    processor : LaneProcessor
    on_processed : callable
        Called after each `process` with its result, its records and its seconds.
    on_failure : callable
        Called when the broker rejects a transaction or an opening.
    """

    def __init__(
        self,
        processor: LaneProcessor[Result],
        on_processed: Callable[[Result, list[Record], float], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.processor, self._on_processed, self._on_failure = processor, on_processed, on_failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def open(self) -> None:
        """Fence former owners, then read what they committed."""
        try:
            self.processor.open()
        except KafkaException:
            self._on_failure()
            raise

    def refresh_plan(self) -> None:
        """Use the newest plan from now on."""
        self.processor.refresh_plan()

    @property
    def next_offset(self) -> int:
        """Offset of the next record to process."""
        return self.processor.next_offset

    @property
    def max_records(self) -> int:
        """Number of records that the next transaction may take."""
        return self.processor.max_records

    @property
    def has_pending_work(self) -> bool:
        """True if a transaction without records has something to do."""
        return self.processor.has_pending_work

    def process(self, records: list[Record]) -> Result:
        """Process records in one transaction."""
        began = time.perf_counter()
        try:
            result = self.processor.process(records)
        except KafkaException:
            self._on_failure()
            raise
        self._on_processed(result, records, time.perf_counter() - began)
        return result

    def skip_deleted(self, start: int) -> None:
        """Continue at the first offset that the log still has."""
        self.processor.skip_deleted(start)

    def close(self) -> None:
        """Roll back an open transaction and release all resources."""
        self.processor.close()


def instrument_router(
    processor: RouterProcessor,
    metrics: Metrics,
    on_failure: Callable[[], None],
    traces: Tracing | None = None,
    on_dead_letters: Callable[[int, int], None] = lambda queries, dead: None,
) -> LaneProcessor[LaneCommit | None]:
    """Report each commit's counts and latencies as metrics, and its queries as spans.

    `on_dead_letters` gets the number of queries of each commit, and of those that became dead letters.
    """

    def report(commit: LaneCommit | None, records: list[Record], seconds: float) -> None:
        if commit is None:
            return
        metrics.committed(commit.before, commit.after)
        if commit.batch is None:
            return
        arrivals = commit.batch.arrivals
        on_dead_letters(len(arrivals.records) + len(arrivals.refused), len(arrivals.refused))
        now = time.time()
        if final := commit.batch.final_timestamps():
            metrics.latencies(now - np.array(final, dtype=np.float64) / 1000)
        if traces is not None:
            traces.committed(commit.batch, now)

    return InstrumentedProcessor(processor, report, on_failure)


def instrument_planner(
    processor: PlannerProcessor,
    metrics: Metrics,
    on_failure: Callable[[], None],
    on_processed: Callable[[], None],
) -> LaneProcessor[bool]:
    """Measure the transactions that led to new prices; call `on_processed` after every one."""

    def report(has_new_prices: bool, records: list[Record], seconds: float) -> None:
        on_processed()
        if has_new_prices:
            metrics.stage("solve", seconds, len(records))

    return InstrumentedProcessor(processor, report, on_failure)
