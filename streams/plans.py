"""The plan in force, as a worker sees it: the newest committed record of the compacted plan topic."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from confluent_kafka import Message

from routing.plan import Plan
from streams.following import TopicReader
from streams.kafka import reader_config
from streams.plan_messages import PLAN_KEY, decode_plan
from streams.settings import Settings
from streams.transactions import read_to_end

log = structlog.get_logger(__name__)


def plan_in_force(settings: Settings) -> Plan | None:
    """The newest plan on the topic, read now; None when no planner has run yet.

    Raises
    ------
    KafkaException
        The broker said something that waiting does not mend.
    """
    newest = None
    for message in read_to_end(reader_config(settings), settings.topics.plans, 0):
        value = message.value()
        if message.key() == PLAN_KEY and value is not None:
            newest = value
    return None if newest is None else decode_plan(newest)


class PlanReader(TopicReader):
    """Follows the plan topic.

    Parameters
    ----------
    settings : Settings
    on_change : callable
        Called in the reader's thread when a newer plan is in force.
    """

    def __init__(self, settings: Settings, on_change: Callable[[Plan], None]) -> None:
        super().__init__(reader_config(settings), settings.topics.plans)
        self.latest: Plan | None = None
        self._on_change = on_change

    def _read(self, message: Message) -> None:
        if message.key() != PLAN_KEY:
            return
        value = message.value()
        if value is None:
            return
        plan = decode_plan(value)
        if self.latest is None or plan.revision > self.latest.revision:
            if self.latest is None or (plan.period, plan.version) != (
                self.latest.period,
                self.latest.version,
            ):
                log.info("plan_in_force", plan=plan.version, period=plan.period, learned=plan.learned)
            self.latest = plan
            self._on_change(plan)
