"""The past of the cluster: points in rings of three widths, few enough for one compacted topic.

A point is what was true at a time, cumulative within its period, so rates are differences of points and a
lost point loses nothing but detail.
"""

from __future__ import annotations

from typing import Any

from streams.overview import Overview

RINGS = ((10, 360), (120, 720), (3600, 1440))
"""Seconds between points and how many are kept: an hour, a day, two months."""


def slots(now: float) -> list[str]:
    """Keys of the ring slots that this moment falls in, one a ring.

    Examples
    --------
    >>> slots(3605.0)
    ['10.0', '120.30', '3600.1']
    """
    return [f"{width}.{int(now // width) % count}" for width, count in RINGS]


def point(overview: Overview, now: float, lag: int) -> dict[str, Any]:
    """A point as plain data; amounts are USD, lists are by LLM."""
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
        "quality_reported": [model.quality_reported for model in models],
        "quality_estimated": [model.quality_estimated for model in models],
    }


class Timekeeper:
    """Says which slots have to be written now: each once, when its time has come."""

    def __init__(self) -> None:
        self._written: dict[int, int] = {}

    def due(self, now: float) -> tuple[str, ...]:
        """Keys of slots not written yet by this keeper."""
        keys = []
        for (width, _), key in zip(RINGS, slots(now), strict=True):
            number = int(now // width)
            if self._written.get(width) != number:
                self._written[width] = number
                keys.append(key)
        return tuple(keys)


class Timeline:
    """The points that are known, by slot."""

    def __init__(self) -> None:
        self._points: dict[str, dict[str, Any]] = {}

    def put(self, key: str, value: dict[str, Any] | None) -> None:
        """Take in what is written under a slot's key."""
        if value is None:
            self._points.pop(key, None)
        else:
            self._points[key] = value

    def newest(self) -> dict[str, Any] | None:
        """The last point."""
        return max(list(self._points.values()), key=lambda found: found["at"], default=None)

    def since(self, start: float, most: int = 500) -> list[dict[str, Any]]:
        """Points from a time on, oldest first, thinned out evenly to at most so many.

        Slots that were overwritten in one ring are still in a coarser one, so the past is coarse and the
        present fine.
        """
        by_time = {found["at"]: found for found in list(self._points.values()) if found["at"] >= start}
        found = [by_time[at] for at in sorted(by_time)]
        return _thinned(found, most)


def _thinned(points: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many, evenly in time; the first and the last stay."""
    if len(points) <= most:
        return points
    first, last = points[0]["at"], points[-1]["at"]
    step = (last - first) / (most - 2)
    kept: dict[int, dict[str, Any]] = {}
    for found in points:
        kept[int((found["at"] - first) / step)] = found  # the last of each stretch
    return [points[0], *(found for _, found in sorted(kept.items()) if found is not points[0])]
