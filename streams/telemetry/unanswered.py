"""Age of the oldest query without an outcome, by LLM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.lanes.lanes import Lanes


def oldest_open(lanes: Lanes | None) -> dict[str, float]:
    """Return the time of the oldest open reservation of each LLM, over the lanes of this worker.

    Parameters
    ----------
    lanes : Lanes or None
        None before they exist.

    Returns
    -------
    dict of str to float
        Seconds since the epoch; LLMs without an open reservation are left out.
    """
    own = list(lanes.all.values()) if lanes is not None else []
    return earliest(getattr(lane.processor, "oldest_open", {}) for lane in own if lane.assigned)


def earliest(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the earliest time of each LLM over lanes or workers."""
    times: dict[str, float] = {}
    for part in parts:
        for name, at in part.items():
            times[name] = min(at, times.get(name, at))
    return times
