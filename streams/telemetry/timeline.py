"""Timeline of the cluster: points in rings of three intervals, few enough for one compacted topic.

A point holds cumulative counts of its period. Rates are differences of points, so that a lost
point only loses detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.telemetry.budget_summary import CounterSummary
from streams.telemetry.cluster_summary import ClusterSummary

RINGS = ((10, 360), (120, 720), (3600, 1440))
"""Seconds between points, and number of points: an hour, a day, two months."""


MAX_BUDGETS = 40
"""Counters of budgets in a point."""


def counters_of(overview: ClusterSummary) -> Iterator[tuple[str, CounterSummary]]:
    """Yield name and figures of the counters whose limit is for the period: budgets, then listed values."""
    limited = [budget for budget in overview.budgets if budget.per is None]
    for budget in sorted(limited, key=lambda one: one.group_by is not None):
        for one in budget.counters:
            yield budget.name if one.value is None else f"{budget.name}={one.value}", one


def slots(now: float) -> list[str]:
    """Return the keys of the slots for this moment, one of each ring.

    Examples
    --------
    >>> slots(3605.0)
    ['10.0', '120.30', '3600.1']
    """
    return [f"{width}.{int(now // width) % count}" for width, count in RINGS]


def point(overview: ClusterSummary, now: float, lag: int) -> dict[str, Any]:
    """Return a point as plain data; amounts are USD, lists are by LLM."""
    models = overview.models
    return {
        "at": round(now, 3),
        "period": overview.period,
        "version": overview.version,
        "began_at": overview.began_at,
        "progress": overview.progress,
        "arrived": overview.arrived,
        "unserved": overview.unserved,
        "deferred": overview.deferred,
        "dead": overview.dead,
        "lag": lag,
        "models": [model.name for model in models],
        **{
            name: [getattr(model, name) for model in models]
            for name in ("budget", "charged", "settled", "served", "price", "reported")
        },
        "budgets": {
            name: [one.limit, one.limit - one.left] for name, one in list(counters_of(overview))[:MAX_BUDGETS]
        },
        "quality_reported": [model.quality_reported for model in models],
        "quality_estimated": [model.quality_estimated for model in models],
    }


class TimelineClock:
    """Determines the slots that are due, each once."""

    def __init__(self) -> None:
        self._written: dict[int, int] = {}

    def pending(self, now: float) -> tuple[str, ...]:
        """Return the keys of due slots that this clock has not returned yet."""
        keys = []
        for (width, _), key in zip(RINGS, slots(now), strict=True):
            number = int(now // width)
            if self._written.get(width) != number:
                self._written[width] = number
                keys.append(key)
        return tuple(keys)


class Timeline:
    """Points by slot."""

    def __init__(self) -> None:
        self._points: dict[str, dict[str, Any]] = {}

    def put(self, key: str, value: dict[str, Any] | None) -> None:
        """Set or delete the point of a slot."""
        if value is None:
            self._points.pop(key, None)
        else:
            self._points[key] = value

    def newest(self) -> dict[str, Any] | None:
        """Return the newest point."""
        return max(list(self._points.values()), key=lambda point: point["at"], default=None)

    def since(self, start: float, limit: int = 500) -> list[dict[str, Any]]:
        """Return points from a time on, oldest first, thinned out evenly to `limit` points.

        A point that was overwritten in one ring remains in a coarser one: older points are further apart.
        """
        by_time = {point["at"]: point for point in list(self._points.values()) if point["at"] >= start}
        points = [by_time[at] for at in sorted(by_time)]
        return _thinned(points, limit)


def _thinned(points: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Return at most `limit` points, evenly in time, the first and the last included."""
    if len(points) <= limit:
        return points
    first, last = points[0]["at"], points[-1]["at"]
    step = (last - first) / (limit - 2)
    intervals: dict[int, dict[str, Any]] = {}
    for point in points:
        intervals[int((point["at"] - first) / step)] = point  # the last of each interval
    return [points[0], *(point for _, point in sorted(intervals.items()) if point is not points[0])]
