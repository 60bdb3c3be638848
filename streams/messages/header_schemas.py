"""JSON Schemas (2020-12) of the headers that the router and fleets add to messages.

A header's value is bytes; here it is their text. A message may have more headers, and other headers of the
same names before these.
"""

from __future__ import annotations

from collections.abc import Mapping

from streams.messages.dead_letter import ERROR_HEADER, ERROR_HEADERS, EXCEPTION_CLASS
from streams.messages.deferred import DEFERRED_COLUMNS, MAX_CLUSTER, NO_TIMESTAMP
from streams.messages.rejection import RejectionReason
from streams.messages.returned import COST_HEADER, REASON_HEADER, REQUESTS_HEADER
from streams.messages.routing_info import MAX_ATTEMPT
from streams.messages.schema_parts import (
    OFFSET,
    TEXT,
    JsonSchema,
    described,
    list_of,
    numbers_in_base64,
    or_null,
)

_DIGITS: JsonSchema = {"type": "string", "pattern": r"^[0-9]+$"}

_ERROR_VALUES: dict[str, JsonSchema] = {
    "topic": described(TEXT, "Topic of the rejected message."),
    "partition": described(_DIGITS, "Its partition."),
    "offset": described(_DIGITS, "Its offset."),
    "stage": {
        "enum": list(dict.fromkeys(reason.stage for reason in RejectionReason)),
        "description": "Step that rejected it.",
    },
    "exception.class.name": {"const": EXCEPTION_CLASS, "description": "Never changes."},
    "exception.message": described(TEXT, "The field and the reason."),
    "timestamp": described(_DIGITS, "Time of the rejection, in milliseconds since 1970."),
}


def _headers(properties: Mapping[str, JsonSchema], needed: list[str]) -> JsonSchema:
    return {"type": "object", "required": needed, "properties": dict(properties)}


def dead_letter_headers_schema() -> JsonSchema:
    """Return the schema of the last seven headers of a dead letter, in this order."""
    properties = {ERROR_HEADER + name: _ERROR_VALUES[name] for name in ERROR_HEADERS}
    return _headers(properties, [*properties])


def returned_query_headers_schema() -> JsonSchema:
    """Return the schema of the headers that a fleet adds to a routed query that it returns."""
    usd = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
    return _headers(
        {
            REASON_HEADER: {"type": "string", "pattern": r"\S", "description": "Why it was not answered."},
            COST_HEADER: {"type": "string", "pattern": usd, "description": "USD that the requests cost."},
            REQUESTS_HEADER: described(_DIGITS, "Requests that were sent."),
        },
        [REASON_HEADER, COST_HEADER],
    )


def deferred_query_header_schema() -> JsonSchema:
    """Return the schema of the JSON in the header of a deferred query; the rest is the query's message."""
    texts = {"quality": "Estimated quality", "cost": "Estimated USD", "charge": "Picodollars to reserve"}
    columns = {
        name: numbers_in_base64(dtype, f"{texts[name]} by LLM, in the order of the plan.")
        for name, dtype in DEFERRED_COLUMNS.items()
    }
    attempt = {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPT}
    return {
        "type": "object",
        "required": ["partition", "offset", *columns],
        "properties": {
            "partition": described(OFFSET, "Lane that deferred the query."),
            "offset": described(OFFSET, "Offset of the query in the lane's input."),
            "timestamp": {
                **OFFSET,
                "minimum": NO_TIMESTAMP,
                "description": "Timestamp of the query's record, in milliseconds since 1970.",
            },
            **columns,
            "max_tokens": or_null(described(OFFSET, "Answer tokens that the charges pay for.")),
            "cluster": {
                "type": "integer",
                "minimum": -1,
                "maximum": MAX_CLUSTER,
                "description": "Task cluster, -1 for none.",
            },
            "attempt": described(attempt, "Number of the decision that was deferred, by default 1."),
            "tried": list_of(TEXT, "LLMs that returned the query before."),
        },
    }
