"""The names of every topic, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Topic names. Build it with `Topics.with_prefix`.

    Examples
    --------
    >>> topics = Topics.with_prefix("eu.")
    >>> topics.llm("gpt-4"), topics.dlq
    ('eu.llm.gpt-4', 'eu.queries.dlq')
    """

    prefix: str = ""
    queries: str = "queries"
    unserved: str = "queries.unserved"
    dlq: str = "queries.dlq"
    returned: str = "queries.returned"
    outcomes: str = "outcomes"
    outcomes_dlq: str = "outcomes.dlq"
    answers: str = "answers"
    samples: str = "router.samples"
    plans: str = "router.plans"
    plan_log: str = "router.plans.log"
    overflow: str = "router.overflow"
    ledger: str = "router.ledger"
    overflow_ledger: str = "router.ledger.overflow"
    reservations: str = "router.reservations"
    periods: str = "router.periods"
    budget_events: str = "router.budget-events"
    catalogue: str = "router.catalogue"
    status: str = "router.status"
    decisions: str = "router.decisions"
    shadow: str = "router.shadow"
    replayed: str = "router.dlq.replayed"
    batches: str = "router.batches"
    gateway_objects: str = "gateway.objects"
    gateway_files: str = "gateway.files"

    @classmethod
    def with_prefix(cls, prefix: str) -> Topics:
        """Return all names with a prefix, so that several routers can share a cluster."""
        names = {field.name: prefix + str(field.default) for field in fields(cls) if field.name != "prefix"}
        return cls(prefix=prefix, **names)

    def llm(self, slug: str) -> str:
        """Return the topic of the LLM with this slug (`routing.budgets.catalogue.Model.slug`)."""
        return f"{self.prefix}llm.{slug}"
