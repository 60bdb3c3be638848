"""Recent plans for the page, from the tail of the log of plans."""

from __future__ import annotations

import threading
from typing import Any

from confluent_kafka import Message

from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.follower import Follower
from streams.messages.plan import decode_plan

MAX_VERSIONS = 200
TAIL_OFFSETS = 4 * MAX_VERSIONS
"""Offsets from the end at which reading starts; a version has one or two records, each with a marker."""


class RecentPlans:
    """Follows the log of plans and keeps the newest versions.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._plans: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._follower = Follower(
            reader_config(settings), settings.topics.plan_log, 1, self._read, tail=TAIL_OFFSETS
        )

    def start(self) -> None:
        """Start following."""
        self._follower.start()

    def stop(self) -> None:
        """Stop following."""
        self._follower.stop()

    def by_version(self) -> list[dict[str, Any]]:
        """Return one plan of each version, the oldest first."""
        with self._lock:
            return [self._plans[version] for version in sorted(self._plans)]

    def append(self, plan: Plan) -> None:
        """Keep a plan, unless its version is known: later revisions of a version have the same prices."""
        with self._lock:
            self._plans.setdefault(plan.version, summarise_plan(plan))
            if len(self._plans) > MAX_VERSIONS:
                del self._plans[min(self._plans)]

    def _read(self, message: Message) -> None:
        if (value := message.value()) is not None:
            self.append(decode_plan(value))


def summarise_plan(plan: Plan) -> dict[str, Any]:
    """Return the fields of a plan that the page shows."""
    origin = plan.solved_from.to_dict()
    return {
        "period": plan.period,
        "version": plan.version,
        "learned": plan.learned,
        "at": plan.created_at,
        "models": list(plan.models),
        "prices": plan.prices.tolist(),
        "solved_from": {k: v for k, v in origin.items() if isinstance(v, int | float | str)},
    }
