"""The plans of the past: the plan in force when a query was decided."""

from __future__ import annotations

from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.kafka.scanner import Scanner
from streams.messages.plan import PlanAssembler, decode_plan


class PlanLog:
    """All plans under which queries were decided, and the plan in force.

    Parameters
    ----------
    settings : Settings
    scanner : Scanner
    """

    def __init__(self, settings: Settings, scanner: Scanner) -> None:
        topics = settings.topics
        plans: dict[int, Plan] = {}
        assembler = PlanAssembler()
        for message in scanner.read([*scanner.places(topics.plan_log), *scanner.places(topics.plans)]):
            value, plan = message.value(), None
            if message.topic() == topics.plans:
                # the newest plan on the compacted topic differs from the log's in grants only
                plan = assembler.append(message.key(), value)
            elif value is not None and message.key() is not None:
                plan = decode_plan(value)
            if plan is not None:
                plans[plan.revision] = plan
        self._by_revision = [plans[revision] for revision in sorted(plans)]

    def at(self, revision: int) -> Plan | None:
        """Return the plan of a revision; its grants may differ."""
        before = [plan for plan in self._by_revision if plan.revision <= revision]
        return before[-1] if before else None

    def of_version(self, version: int, period: int) -> Plan | None:
        """Return the last plan of a version, for queries without a reservation."""
        same = [p for p in self._by_revision if (p.version, p.period) == (version, period)]
        return same[-1] if same else None

    def names(self, revision: int) -> tuple[str, ...]:
        """Return the LLMs of the plan of a revision."""
        plan = self.at(revision)
        return plan.models if plan is not None else ()

    @property
    def llms(self) -> list[str]:
        """All LLMs of all plans."""
        return list(dict.fromkeys(name for plan in self._by_revision for name in plan.models))
