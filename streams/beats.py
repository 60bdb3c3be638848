"""What a worker tells of itself every few seconds, and how that is put together for the whole cluster."""

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

from routing.decision import IntArray
from streams.histogram import SECONDS, Histogram, quantiles
from streams.lanes import Lanes
from streams.metrics import Metrics

WINDOW_BEATS = 12
"""Percentiles and rates are of so many beats: a minute."""

SHARES = (0.5, 0.95, 0.99)


class Pulse:
    """Makes a worker's beats: each has the last minute, not all since the start.

    Parameters
    ----------
    metrics : Metrics
    """

    def __init__(self, metrics: Metrics) -> None:
        self._histograms: dict[str, Histogram] = {
            **metrics.stage_seconds, "latency": metrics.latency_seconds
        }  # fmt: skip
        self._past: deque[tuple[float, float, dict[str, IntArray]]] = deque(maxlen=WINDOW_BEATS + 1)
        self._process = psutil.Process()
        self._started_at = time.time()
        self.worker = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._past.append(self._now())

    def _now(self) -> tuple[float, float, dict[str, IntArray]]:
        cpu = self._process.cpu_times()
        counts = {name: histogram.counts()[0] for name, histogram in self._histograms.items()}
        return time.time(), cpu.user + cpu.system, counts

    def beat(self, lanes: Lanes | None, ready: bool) -> dict[str, Any]:
        """The worker as it is now, as plain data; counts are by bucket of `streams.histogram.SECONDS`."""
        now = self._now()
        then = self._past[0]
        self._past.append(now)
        seconds = max(now[0] - then[0], 1e-3)
        recent = {name: counts - then[2][name] for name, counts in now[2].items()}
        mine = [lane for lane in lanes.all.values() if lane.assigned] if lanes is not None else []
        return {
            "worker": self.worker,
            "host": platform.node(),
            "pid": os.getpid(),
            "at": now[0],
            "started_at": self._started_at,
            "ready": ready,
            "lanes": sorted(f"{lane.topic}:{lane.partition}" for lane in mine),
            "pending": sum(len(lane.pending) for lane in mine),
            "queries_per_second": round(float(recent["latency"].sum()) / seconds, 3),
            "cpu_ratio": round((now[1] - then[1]) / seconds, 3),
            "memory_bytes": self._process.memory_info().rss,
            "seconds": {name: _sparse(counts) for name, counts in recent.items() if counts.any()},
        }


def merged_percentiles(beats: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Percentiles over the workers' last minutes, by stage; seconds.

    Parameters
    ----------
    beats : iterable of mapping
        From `Pulse.beat`.
    """
    totals: dict[str, IntArray] = {}
    for beat in beats:
        for name, pairs in beat["seconds"].items():
            counts = totals.setdefault(name, np.zeros(len(SECONDS) + 1, dtype=np.int64))
            for bucket, number in pairs:
                if 0 <= bucket < len(counts):
                    counts[bucket] += number
    found: dict[str, dict[str, float | int | None]] = {}
    for name, counts in totals.items():
        values = quantiles(SECONDS, counts, SHARES)
        found[name] = {f"p{100 * share:g}": value for share, value in zip(SHARES, values, strict=True)}
        found[name]["count"] = int(counts.sum())
    return found


def _sparse(counts: IntArray) -> list[list[int]]:
    return [[int(bucket), int(counts[bucket])] for bucket in np.flatnonzero(counts)]
