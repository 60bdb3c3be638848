"""Heartbeats of workers, and percentiles over all of them."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import psutil

from routing.arrays import (
    IntArray,
)
from streams.lanes.lanes import Lanes
from streams.telemetry.histogram import SECONDS, Histogram, quantiles
from streams.telemetry.metrics import Metrics
from streams.telemetry.unanswered import oldest_open

WINDOW_HEARTBEATS = 12
"""Heartbeats that percentiles and rates cover: one minute."""

QUANTILES = (0.5, 0.95, 0.99)


class Heartbeat:
    """Creates a worker's heartbeats; each covers the last minute.

    Parameters
    ----------
    metrics : Metrics
    """

    def __init__(self, metrics: Metrics) -> None:
        self._histograms: dict[str, Histogram] = {**metrics.stage_seconds, "latency": metrics.latency_seconds}
        self._past: deque[tuple[float, float, dict[str, IntArray]]] = deque(maxlen=WINDOW_HEARTBEATS + 1)
        self._process = psutil.Process()
        self._started_at = time.time()
        self.worker = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._past.append(self._now())

    def _now(self) -> tuple[float, float, dict[str, IntArray]]:
        cpu = self._process.cpu_times()
        counts = {name: histogram.counts()[0] for name, histogram in self._histograms.items()}
        return time.time(), cpu.user + cpu.system, counts

    def snapshot(self, lanes: Lanes | None, ready: bool) -> dict[str, Any]:
        """Return the worker's current state as plain data; counts are by bucket of `histogram.SECONDS`."""
        now = self._now()
        then = self._past[0]
        self._past.append(now)
        seconds = max(now[0] - then[0], 1e-3)
        recent = {name: counts - then[2][name] for name, counts in now[2].items()}
        own = [lane for lane in lanes.all.values() if lane.assigned] if lanes is not None else []
        return {
            "worker": self.worker,
            "host": platform.node(),
            "pid": os.getpid(),
            "at": now[0],
            "started_at": self._started_at,
            "ready": ready,
            "lanes": sorted(f"{lane.topic}:{lane.partition}" for lane in own),
            "pending": sum(len(lane.pending) for lane in own),
            "queries_per_second": round(float(recent["latency"].sum()) / seconds, 3),
            "cpu_ratio": round((now[1] - then[1]) / seconds, 3),
            "memory_bytes": self._process.memory_info().rss,
            "oldest_open": oldest_open(lanes),
            "seconds": {name: _sparse(counts) for name, counts in recent.items() if counts.any()},
        }


def merged_percentiles(heartbeats: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Return percentiles in seconds over the workers' last minutes, by stage.

    Parameters
    ----------
    heartbeats : iterable of mapping
        From `Heartbeat.snapshot`.
    """
    totals: dict[str, IntArray] = {}
    for heartbeat in heartbeats:
        for name, pairs in heartbeat["seconds"].items():
            counts = totals.setdefault(name, np.zeros(len(SECONDS) + 1, dtype=np.int64))
            for bucket, number in pairs:
                if 0 <= bucket < len(counts):
                    counts[bucket] += number
    percentiles: dict[str, dict[str, float | int | None]] = {}
    for name, counts in totals.items():
        values = quantiles(SECONDS, counts, QUANTILES)
        percentiles[name] = {
            f"p{100 * share:g}": value for share, value in zip(QUANTILES, values, strict=True)
        }
        percentiles[name]["count"] = int(counts.sum())
    return percentiles


def _sparse(counts: IntArray) -> list[list[int]]:
    return [[int(bucket), int(counts[bucket])] for bucket in np.flatnonzero(counts)]
