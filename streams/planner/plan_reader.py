"""The plan in force: the newest committed message of the compacted plan topic."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog
from confluent_kafka import Message

from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.follower import TopicReader
from streams.kafka.topic_access import TopicAccess
from streams.messages.plan import PlanAssembler

log = structlog.get_logger(__name__)


def plan_in_force(settings: Settings) -> Plan | None:
    """Read the newest plan from its topic; None if no planner has run yet.

    Raises
    ------
    KafkaException
        The broker returned an error that a retry does not resolve.
    """
    return newest_plan(TopicAccess(settings).read(settings.topics.plans))


def newest_plan(messages: Iterable[Message]) -> Plan | None:
    """Return the last plan among messages of the plan topic, or None."""
    newest, assembler = None, PlanAssembler()
    for message in messages:
        newest = assembler.append(message.key(), message.value()) or newest
    return newest


class PlanReader(TopicReader):
    """Follows the plan topic.

    Parameters
    ----------
    settings : Settings
    on_change : callable
        Called in the reader's thread after a newer plan was read.
    """

    def __init__(self, settings: Settings, on_change: Callable[[Plan], None]) -> None:
        super().__init__(reader_config(settings), settings.topics.plans)
        self.latest: Plan | None = None
        self._assembler = PlanAssembler()
        self._on_change = on_change

    def _read(self, message: Message) -> None:
        plan = self._assembler.append(message.key(), message.value())
        if plan is None:
            return
        if self.latest is None or plan.revision > self.latest.revision:
            last, self.latest = self.latest, plan
            if self.ready and (last is None or (plan.period, plan.version) != (last.period, last.version)):
                self._report(plan)
            self._on_change(plan)

    def _caught_up(self) -> None:
        if self.latest is not None:
            self._report(self.latest)

    def _report(self, plan: Plan) -> None:
        log.info("plan_in_force", plan=plan.version, period=plan.period, learned=plan.learned)
