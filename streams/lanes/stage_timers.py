"""Timers of a batch's stages: seconds, CPU seconds and queries."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = ("intake", "decide", "produce", "commit", "settle", "sample")


class Stages:
    """Sums over all lanes of a worker; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)
        self.queries: dict[str, int] = defaultdict(int)
        self.observers: list[Callable[[str, float, int], None]] = []
        """Called with stage, seconds and queries of each batch, for metrics."""

    @contextmanager
    def stage(self, name: str, queries: int) -> Iterator[None]:
        """Measure a stage of a batch."""
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            with self._lock:
                self.seconds[name] += seconds
                self.cpu_seconds[name] += time.thread_time() - cpu
                self.queries[name] += queries
            for observer in self.observers:
                observer(name, seconds, queries)

    def snapshot(self) -> dict[str, dict[str, float]]:
        """Return the sums so far, by stage."""
        with self._lock:
            return {
                name: {
                    "seconds": self.seconds[name],
                    "cpu_seconds": self.cpu_seconds[name],
                    "queries": self.queries[name],
                }
                for name in self.seconds
            }
