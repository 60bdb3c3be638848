"""JSON Schemas (2020-12) of all messages by name, as `python -m streams schema` prints them.

The schemas stand beside the decoders and take their limits and fields from them.
"""

from __future__ import annotations

from collections.abc import Callable

from streams.messages.catalogue_schemas import catalogue_schema, pause_schema, top_up_schema
from streams.messages.external_schemas import (
    answer_schema,
    budget_event_schema,
    decision_schema,
    outcome_schema,
    query_schema,
    routed_query_schema,
    unserved_query_schema,
)
from streams.messages.header_schemas import (
    dead_letter_headers_schema,
    deferred_query_header_schema,
    returned_query_headers_schema,
)
from streams.messages.internal_schemas import (
    period_counter_schema,
    period_schema,
    plan_counter_schema,
    plan_head_schema,
    plan_schema,
)
from streams.messages.ledger_schemas import (
    ledger_account_schema,
    ledger_counter_schema,
    ledger_schema,
    reservations_schema,
    samples_schema,
)
from streams.messages.schema_parts import JsonSchema
from streams.messages.status_schemas import heartbeat_schema, timeline_point_schema
from streams.messages.tool_schemas import batch_progress_schema, gateway_object_schema, replay_marker_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"

NamedSchemas = dict[str, tuple[str, Callable[[], JsonSchema]]]

VALUE_SCHEMAS: NamedSchemas = {
    "query": ("A query, as producers write it to `queries`.", query_schema),
    "routed-query": ("A query with `routing`, on the topic of its LLM.", routed_query_schema),
    "unserved-query": ("A query that no LLM gets, on `queries.unserved`.", unserved_query_schema),
    "answer": ("An answer of a fleet, on `answers`.", answer_schema),
    "outcome": ("The cost of an answer, on `outcomes`.", outcome_schema),
    "budget-event": ("A threshold or forecast of a budget, on `router.budget-events`.", budget_event_schema),
    "decision": ("A decision with the scores of all LLMs, on `router.decisions`.", decision_schema),
    "period": ("The bill of a period, on `router.periods`.", period_schema),
    "period-counter": ("A value of a grouped budget in a bill, on `router.periods`.", period_counter_schema),
    "plan": ("Prices and grants, on `router.plans.log`.", plan_schema),
    "plan-head": ("A plan without grouped counters, on `router.plans`.", plan_head_schema),
    "plan-counter": ("A grouped counter of a plan, on `router.plans`.", plan_counter_schema),
    "catalogue": ("A version of the catalogue, on `router.catalogue`.", catalogue_schema),
    "pause": ("An operator's pause of an LLM, on `router.catalogue`.", pause_schema),
    "top-up": ("A limit raised for one period, on `router.catalogue`.", top_up_schema),
    "ledger": ("The state of a lane, on `router.ledger`.", ledger_schema),
    "ledger-account": ("A lane's account of a past period, on `router.ledger`.", ledger_account_schema),
    "ledger-counter": ("A grouped counter of a lane, on `router.ledger`.", ledger_counter_schema),
    "reservations": ("Amounts that routed queries hold, on `router.reservations`.", reservations_schema),
    "samples": ("Estimates for the planner, on `router.samples`.", samples_schema),
    "heartbeat": ("The state of a worker, on `router.status`.", heartbeat_schema),
    "timeline-point": ("A point of the timeline, on `router.status`.", timeline_point_schema),
    "replay-marker": ("A replayed dead letter, on `router.dlq.replayed`.", replay_marker_schema),
    "batch-progress": ("The progress of a batch, on `router.batches`.", batch_progress_schema),
    "gateway-object": ("A claim, response, file or batch, on `gateway.objects`.", gateway_object_schema),
}
"""Description and schema of the value of each message, by name."""

HEADER_SCHEMAS: NamedSchemas = {
    "dead-letter-headers": (
        "Headers of a dead letter, on `queries.dlq` and `outcomes.dlq`.",
        dead_letter_headers_schema,
    ),
    "returned-query-headers": (
        "Headers of a returned query, on `queries.returned`.",
        returned_query_headers_schema,
    ),
    "deferred-query-header": (
        "The header `__router.overflow` as JSON, on `router.overflow`.",
        deferred_query_header_schema,
    ),
}
"""The same for headers."""

SCHEMAS: NamedSchemas = VALUE_SCHEMAS | HEADER_SCHEMAS
"""Description and schema of each message, by name."""


def message_schema(name: str) -> JsonSchema:
    """Return the schema of a message as a document of its own.

    Raises
    ------
    KeyError
        No message has this name.

    Examples
    --------
    >>> message_schema("outcome")["required"]
    ['id', 'model', 'cost', 'partition', 'offset']
    """
    description, schema = SCHEMAS[name]
    return {"$schema": DIALECT, "$id": f"urn:port-router:{name}", "description": description, **schema()}
