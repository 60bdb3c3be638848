"""Print the reason why no query has arrived yet."""

from __future__ import annotations

import sys
import time

from confluent_kafka import KafkaException

from streams.config.settings import Settings
from streams.planner.plan_reader import plan_in_force
from streams.planner.warmup import warmup_wait

FIRST_NOTICE_SECONDS = 1.0
"""Silence after which the first reason is printed."""

CHECK_INTERVAL_SECONDS = 15.0
"""Time between two checks for a changed reason."""


class WaitReport:
    """Prints each reason for waiting once.

    Parameters
    ----------
    settings : Settings
    deadline : float
        Seconds of silence after which the caller gives up.
    """

    def __init__(self, settings: Settings, deadline: float) -> None:
        self._settings, self._deadline = settings, deadline
        self._next = time.monotonic() + FIRST_NOTICE_SECONDS
        self._printed = ""

    def refresh(self) -> None:
        """Print the reason on standard error if it is due and has changed."""
        if time.monotonic() < self._next:
            return
        reason = waiting_for(self._settings, self._deadline)
        self._next = time.monotonic() + CHECK_INTERVAL_SECONDS
        if reason is not None and reason != self._printed:
            self._printed = reason
            print(reason, file=sys.stderr, flush=True)


def waiting_for(settings: Settings, deadline: float) -> str | None:
    """Return the reason why queries wait, in one line; None if the plan cannot be read.

    Parameters
    ----------
    settings : Settings
    deadline : float
        Seconds of silence after which the caller gives up.
    """
    try:
        plan = plan_in_force(settings)
    except (KafkaException, TimeoutError):  # producers need no permission to read plans
        return None
    limit = f"giving up after {deadline:g} s without a query"
    if plan is None:
        return f"no worker has run yet: start one with `python -m streams worker`; {limit}"
    wait = warmup_wait(plan)
    return f"waiting for a worker to route; {limit}" if wait is None else str(wait)
