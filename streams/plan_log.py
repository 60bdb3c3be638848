"""The plans of the past: what was in force when a query was decided."""

from __future__ import annotations

from routing.plan import Plan
from streams.plan_messages import PLAN_KEY, decode_plan
from streams.scanning import Scanner
from streams.settings import Settings


class PlanLog:
    """Every plan that decided, from the log; the one in force as well.

    Parameters
    ----------
    settings : Settings
    scanner : Scanner
    """

    def __init__(self, settings: Settings, scanner: Scanner) -> None:
        topics = settings.topics
        found: dict[int, Plan] = {}
        for message in scanner.read([*scanner.places(topics.plan_log), *scanner.places(topics.plans)]):
            if (value := message.value()) is not None and message.key() is not None:
                plan = decode_plan(value)
                # the newest record on the compacted topic differs from the log's in rights only
                if message.topic() == topics.plan_log or message.key() == PLAN_KEY:
                    found[plan.revision] = plan
        self._by_revision = [found[revision] for revision in sorted(found)]

    def at(self, revision: int) -> Plan | None:
        """What decided at this revision, but for the rights."""
        before = [plan for plan in self._by_revision if plan.revision <= revision]
        return before[-1] if before else None

    def of_version(self, version: int, period: int) -> Plan | None:
        """The last plan of a version, for what has no reservation."""
        same = [p for p in self._by_revision if (p.version, p.period) == (version, period)]
        return same[-1] if same else None

    def names(self, revision: int) -> tuple[str, ...]:
        """The LLMs of the plan of a revision."""
        plan = self.at(revision)
        return plan.models if plan is not None else ()

    @property
    def llms(self) -> list[str]:
        """Every LLM there was."""
        return list(dict.fromkeys(name for plan in self._by_revision for name in plan.models))
