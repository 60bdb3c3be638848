"""JSON Schemas (2020-12) of the messages that programs outside the router write or read.

They stand beside the decoders and take their limits from them. A JSON Schema cannot say everything: sizes in
bytes, base64 of a certain length, and whole numbers written with a fraction (`5.0`), which decoders reject.
"""

from __future__ import annotations

from typing import Any

from routing.budgets.budget import UNITS
from routing.budgets.money import MAX_USD
from streams.messages.budget_event import EVENTS
from streams.messages.fields import MAX_ID_CHARACTERS
from streams.messages.outcome import MAX_OUTCOME_USD, OUTCOME_STATUSES
from streams.messages.query import MAX_PROMPT_BYTES, MAX_TOKENS
from streams.messages.query_limits import (
    MAX_EPOCH_MILLISECONDS,
    MAX_MODEL_PATTERNS,
    MAX_PATTERN_CHARACTERS,
    MAX_WEIGHT,
)
from streams.messages.routing_info import MAX_ATTEMPT
from streams.messages.schema_parts import MAX_OFFSET, JsonSchema
from streams.messages.unserved import UnservedReason

_TIME = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?"
    r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
"""A time by RFC 3339, as `streams.messages.query_limits` reads it, but for the lengths of months."""


_ATTEMPT: JsonSchema = {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPT}


def _text(description: str, **limits: Any) -> JsonSchema:
    return {"type": "string", "minLength": 1, "description": description, **limits}


def _optional(schema: JsonSchema) -> JsonSchema:
    """Return the schema of a field whose null counts as missing."""
    description = schema["description"]
    return {
        "description": description,
        "anyOf": [{"type": "null"}, {k: v for k, v in schema.items() if k != "description"}],
    }


def _number(description: str, maximum: float, **limits: Any) -> JsonSchema:
    return {"type": "number", "minimum": 0, "maximum": maximum, "description": description, **limits}


def _integer(description: str, **limits: Any) -> JsonSchema:
    return {"type": "integer", "description": description, **limits}


_CONTENT_WITH_TEXT: JsonSchema = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "contains": {
                "type": "object",
                "required": ["text"],
                "properties": {"text": {"type": "string", "minLength": 1}},
            },
        },
    ]
}

_MESSAGES: JsonSchema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"type": "string"}, "content": {"type": ["null", "string", "array"]}},
    },
    "contains": {"required": ["content"], "properties": {"content": _CONTENT_WITH_TEXT}},
}
"""Messages of the chat completions API, at least one of which has a text."""


def query_schema() -> JsonSchema:
    """Return the schema of a query, as producers write it."""
    deadline = {
        "description": "Time after which an answer has no use: RFC 3339, or milliseconds since 1970.",
        "anyOf": [
            {"type": "null"},
            {"type": "integer", "minimum": 0, "maximum": MAX_EPOCH_MILLISECONDS},
            {"type": "string", "pattern": _TIME},
        ],
    }
    models = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_MODEL_PATTERNS,
        "items": {"type": "string", "pattern": rf"^(![\s\S]|[^!])[\s\S]{{0,{MAX_PATTERN_CHARACTERS - 1}}}$"},
        "description": "Names or patterns of the LLMs that may answer; a leading ! excludes.",
    }
    has_prompt = {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}}
    return {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": _text("Identifies the query.", maxLength=MAX_ID_CHARACTERS),
            "prompt": {
                "description": "Text of the query, at most 1 MiB in UTF-8; by default that of `messages`.",
                "anyOf": [
                    {"type": "null"},
                    {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT_BYTES},
                ],
            },
            "messages": {"description": "Messages of the chat completions API."},
            "parameters": {"description": "Object with other parameters of the chat completions API."},
            "embedding": {
                "description": "The prompt's embedding by the history's embedder: base64 of little-endian "
                "float16, or a list of numbers."
            },
            "max_tokens": _optional(_integer("Maximum tokens of the answer.", minimum=1, maximum=MAX_TOKENS)),
            "metadata": _optional({"type": "object", "description": "Free; budgets can group by it."}),
            "weight": _optional(
                {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": MAX_WEIGHT,
                    "description": "Factor of the query's quality, by default 1.",
                }
            ),
            "models": _optional(models),
            "max_cost_usd": _optional(_number("Largest amount that the query may reserve.", MAX_USD)),
            "min_quality": _optional(_number("Smallest estimated quality.", 1)),
            "deadline": deadline,
        },
        # a query without a prompt needs messages with text
        "if": has_prompt,
        "else": {"required": ["messages"], "properties": {"messages": _MESSAGES}},
    }


def routing_schema() -> JsonSchema:
    """Return the schema of the object `routing`, which the router adds."""
    count = {"type": "integer", "minimum": 0}
    number = {"type": "number"}
    return {
        "type": "object",
        "required": ["partition", "offset"],
        "properties": {
            "plan": {**count, "description": "Version of the plan."},
            "period": {**count, "description": "Number of the budget period."},
            "partition": {**count, "description": "The lane of the reservation."},
            "routed_at": {**number, "description": "Seconds since 1970."},
            "offset": {**count, "description": "Offset of the query in the lane's input."},
            "source": {
                "type": "array",
                "items": {"type": "integer"},
                "minItems": 2,
                "maxItems": 2,
                "description": "Partition and offset in `queries`, if the overflow lane decided the query.",
            },
            "model": {"type": "string", "description": "Name of the LLM."},
            "quality": {**number, "description": "Estimated quality, 0 to 1."},
            "cost": {**number, "description": "USD that are reserved."},
            "price": {**number, "description": "Dual price of the LLM's budget."},
            "max_tokens": {
                "type": "integer",
                "minimum": 1,
                "description": "Limit of the answer's tokens; ask for no more. "
                "Without `reserve`, `cost` pays for so many.",
            },
            "reserve": {
                "type": "string",
                "description": "Percentile of the cost that `cost` is, such as p95; "
                "an answer of `max_tokens` costs more.",
            },
            "attempt": {**_ATTEMPT, "description": "Number of this decision about the query."},
            "tried": {
                "type": "array",
                "items": {"type": "string"},
                "description": "LLMs that returned the query, which this decision excludes.",
            },
            "exhausted": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Budgets that cannot pay an unserved query.",
            },
            "excluded": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Reason why each LLM may not answer an unserved query.",
            },
            "probability": {
                **number,
                "description": "Probability of this decision, if chance had a part in it.",
            },
        },
    }


def routed_query_schema() -> JsonSchema:
    """Return the schema of a query on an LLM's topic."""
    return _extended({"routing": {**routing_schema(), "required": ["partition", "offset", "model"]}})


def unserved_query_schema() -> JsonSchema:
    """Return the schema of a query that no LLM gets."""
    reason = {"enum": [str(reason) for reason in UnservedReason], "description": "Why no LLM gets it."}
    return _extended({"routing": routing_schema(), "reason": reason})


def _extended(added: dict[str, JsonSchema]) -> JsonSchema:
    query = query_schema()
    return {
        **query,
        "required": [*query["required"], *added],
        "properties": {**query["properties"], **added},
    }


def outcome_schema() -> JsonSchema:
    """Return the schema of an outcome, as fleets write it."""
    position = {"minimum": 0, "maximum": MAX_OFFSET}
    return {
        "type": "object",
        "required": ["id", "model", "cost", "partition", "offset"],
        "properties": {
            "id": _text("The query's id.", maxLength=MAX_ID_CHARACTERS),
            "model": _text("The LLM that answered, as in `routing`."),
            "cost": _number("USD that the answer cost.", MAX_OUTCOME_USD),
            "quality": _optional(_number("Quality of the answer, on the history's scale.", 1)),
            "partition": _integer("As in `routing`.", **position),
            "offset": _integer("As in `routing`.", **position),
            "attempt": {**_ATTEMPT, "description": "As in `routing`, by default 1."},
            "status": {
                "enum": list(OUTCOME_STATUSES),
                "description": "The LLM answered, it failed, or the deadline had passed; by default ok.",
            },
        },
    }


def answer_schema() -> JsonSchema:
    """Return the schema of an answer, as fleets write it."""
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "status": {"type": "integer", "description": "HTTP status of the endpoint."},
            "body": {"type": ["object", "null"], "description": "The endpoint's error response."},
        },
    }
    return {
        "type": "object",
        "required": ["id", "model", "cost", "partition", "offset"],
        "properties": {
            "id": _text("The query's id."),
            "model": _text("The LLM that answered."),
            "answer": {"type": ["string", "null"], "description": "Text of the answer."},
            "response": {
                "type": "object",
                "description": "The response of the endpoint, for queries with `messages`.",
            },
            "finish_reason": {"type": ["string", "null"], "description": "Why the answer ended."},
            "usage": {"type": ["object", "null"], "description": "Tokens as the endpoint counts them."},
            "error": {"anyOf": [{"type": "null"}, error], "description": "Why there is no answer."},
            "attempts": _integer("Requests for this query.", minimum=0),
            "seconds": {"type": "number", "description": "Time of the last request."},
            "cost": {"type": "number", "minimum": 0, "description": "USD of all requests."},
            "partition": _integer("As in `routing`.", minimum=0),
            "offset": _integer("As in `routing`.", minimum=0),
            "attempt": {**_ATTEMPT, "description": "As in `routing`."},
        },
    }


def budget_event_schema() -> JsonSchema:
    """Return the schema of an event of a budget, as the planner writes it."""
    amount = {"type": "number", "minimum": 0}
    event = {"enum": list(EVENTS), "description": "A threshold was reached, or a budget will not last."}
    return {
        "type": "object",
        "required": [
            "event",
            "period",
            "budget",
            "value",
            "unit",
            "limit",
            "used",
            "share",
            "progress",
            "at",
        ],
        "properties": {
            "event": event,
            "period": _integer("Number of the budget period.", minimum=1),
            "budget": _text("Name of the budget, or of an LLM with a budget of its own."),
            "value": {"type": ["string", "null"], "description": "Value of the budget's `group_by`."},
            "unit": {"enum": list(UNITS), "description": "Unit of `limit` and `used`."},
            "limit": {**amount, "description": "Limit of the period."},
            "used": {**amount, "description": "Amount that is spent or reserved."},
            "share": {**amount, "description": "`used` over `limit`."},
            "progress": {**amount, "description": "Share of the period that is over."},
            "at": {"type": "number", "description": "Seconds since 1970."},
            "threshold": {"enum": [0.5, 0.8, 1.0], "description": "Share of the limit that was reached."},
            "exhausted_at": {**amount, "description": "Share of the period when nothing will be left."},
            "ends_at": {"type": "number", "description": "End of a period that ends by time."},
        },
    }


def decision_schema() -> JsonSchema:
    """Return the schema of a record of the decision log, as the router writes it."""
    count = {"type": "integer", "minimum": 0}
    number = {"type": "number"}
    routing = routing_schema()["properties"]

    def by_llm(item: JsonSchema, description: str) -> JsonSchema:
        return {"type": "array", "items": item, "description": f"By LLM: {description}"}

    return {
        "type": "object",
        "required": ["id", "partition", "offset", "attempt", "probability", "models"],
        "properties": {
            "id": _text("The query's id."),
            **{name: routing[name] for name in ("partition", "offset", "source", "attempt")},
            "plan": {**count, "description": "Version of the plan."},
            "period": {**count, "description": "Number of the budget period."},
            "decided_at": {**number, "description": "Seconds since 1970."},
            "model": {"type": ["string", "null"], "description": "The LLM; null for an unserved query."},
            "reason": {
                "enum": [str(reason) for reason in UnservedReason],
                "description": "Why no LLM gets the query.",
            },
            "probability": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "description": "Probability of this decision.",
            },
            "weight": {**number, "description": "Factor of the query's quality."},
            "models": by_llm({"type": "string"}, "its name."),
            "quality": by_llm(number, "estimated quality, 0 to 1."),
            "cost": by_llm(number, "estimated USD."),
            "reserved": by_llm(number, "USD that the query would reserve."),
            "price": by_llm({"type": ["number", "null"]}, "quality that it has to be worth; null if closed."),
            "score": by_llm({"type": ["number", "null"]}, "weight times quality, less the price."),
            "eligible": by_llm({"type": "boolean"}, "whether it may answer."),
        },
    }
