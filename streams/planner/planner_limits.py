"""Limits on what the planner holds, and on the time between its grant rounds."""

from __future__ import annotations

from dataclasses import dataclass

SUMMARY_SECONDS = 0.2
"""Shortest time between two updates of bills."""

SUMMARY_PAUSES = 10
"""Time between two updates of bills as a multiple of one's processor time: thousands of values take long."""


@dataclass(frozen=True)
class PlannerLimits:
    """Limits on what the planner holds, and on the time between its grant rounds.

    Parameters
    ----------
    held_samples : int
        Samples held for later solves. At this number the planner reads no more: the log keeps them.
    longest_round_seconds, shortest_round_seconds : float
        Time between two grant rounds. The worker wakes the planner every 0.2 s, and after ledgers change.
    max_queries_per_second : int
        Rate that no cluster exceeds. It bounds a burst between two grant rounds.
    """

    held_samples: int = 100_000
    longest_round_seconds: float = 0.15
    shortest_round_seconds: float = 0.01
    max_queries_per_second: int = 50_000


DEFAULT_LIMITS = PlannerLimits()
