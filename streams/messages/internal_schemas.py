"""JSON Schemas (2020-12) of plans and bills: messages that only the router writes, and other tools read.

Their decoders trust the router, which alone writes them: they ignore unknown fields, and do not check values.
"""

from __future__ import annotations

from typing import Any

from routing.budgets.budget import UNITS

JsonSchema = dict[str, Any]

_COUNT: JsonSchema = {"type": "integer", "minimum": 0}
_TEXT: JsonSchema = {"type": "string"}
_FLAG: JsonSchema = {"type": "boolean"}
_NUMBER: JsonSchema = {"type": "number"}
_TIME: JsonSchema = {"type": "number", "description": "Seconds since 1970."}
_AMOUNT: JsonSchema = {"type": "integer"}


def _list(items: JsonSchema, description: str) -> JsonSchema:
    return {"type": "array", "items": items, "description": description}


def _by_name(values: JsonSchema, description: str) -> JsonSchema:
    return {"type": "object", "additionalProperties": values, "description": description}


def _or_null(schema: JsonSchema) -> JsonSchema:
    description = {"description": schema["description"]} if "description" in schema else {}
    return {
        **description,
        "anyOf": [{"type": "null"}, {k: v for k, v in schema.items() if k != "description"}],
    }


def period_schema() -> JsonSchema:
    """Return the schema of a period's bill: totals over all lanes, amounts in picodollars, lists by LLM."""
    amounts = _list(_AMOUNT, "Picodollars by LLM.")
    counts = _list(_COUNT, "Queries by LLM.")
    counter = {
        "type": "object",
        "required": ["budget", "value", "unit", "charged", "by_llm"],
        "properties": {
            "budget": _TEXT,
            "value": _or_null(_TEXT),
            "unit": {"enum": list(UNITS)},
            "charged": _AMOUNT,
            "limit": _or_null(_AMOUNT),
            "by_llm": _by_name(
                {"type": "array", "items": _AMOUNT, "minItems": 3, "maxItems": 3},
                "Queries served, picodollars reserved and settled.",
            ),
        },
    }
    return {
        "type": "object",
        "required": [
            *("period", "closed", "models", "budgets", "reserved", "settled", "charged", "served"),
            *("settlements", "lapsed", "arrived", "unserved", "deferred", "dead"),
        ],
        "properties": {
            "period": {**_COUNT, "description": "Number of the period, from 1; also the key."},
            "closed": {**_FLAG, "description": "Every lane has left the period."},
            "settling": {**_FLAG, "description": "Totals can change."},
            "models": _list(_TEXT, "The LLMs, in the order of the lists."),
            "budgets": _or_null(amounts),
            "reserved": amounts,
            "settled": amounts,
            "charged": amounts,
            **dict.fromkeys(("served", "settlements", "lapsed", "failed"), counts),
            **dict.fromkeys(("arrived", "unserved", "deferred", "dead"), _COUNT),
            "again": {**_COUNT, "description": "Decisions about returned queries."},
            "counters": _list(counter, "Shared and grouped budgets; empty with one budget per LLM."),
        },
    }


def plan_schema() -> JsonSchema:
    """Return the schema of a whole plan, as the log of plans has it."""
    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    matrix = _list({"type": "array", "items": _AMOUNT}, "By lane and counter, the overflow lane last.")
    pause = {
        "type": "object",
        "required": ["reason", "since"],
        "properties": {"reason": _TEXT, "since": _TIME},
    }
    counters = {
        "type": "object",
        "required": ["budgets", "keys"],
        "properties": {
            "budgets": _list({"type": "object", "required": ["name", "models"]}, "As in the catalogue."),
            "keys": _list(pair, "Budget and value of each counter."),
        },
    }
    return {
        "type": "object",
        "required": [
            *("period", "version", "revision", "models", "active", "budgets", "prices", "learned"),
            *("granted", "target", "overflow", "horizon"),
        ],
        "properties": {
            "period": {**_COUNT, "description": "Number of the period."},
            "version": {**_COUNT, "description": "Price solves over all periods."},
            "revision": {**_COUNT, "description": "Number of changes."},
            "models": {**_list(_TEXT, "The LLMs, in the order of the lists."), "minItems": 1},
            "active": _list(_FLAG, "Open LLMs."),
            "budgets": _list(_AMOUNT, "Limit of each counter in its smallest unit."),
            "prices": _list(_NUMBER, "Quality per USD, per query or per token, by counter."),
            "learned": {**_FLAG, "description": "There are prices."},
            "granted": matrix,
            "target": matrix,
            "overflow": {**_FLAG, "description": "Lanes defer queries that they cannot pay."},
            "horizon": {**_COUNT, "description": "Expected queries of the period."},
            "until": _or_null(_COUNT),
            "solved_from": {"type": "object", "description": "Origin of the prices."},
            "created_at": _TIME,
            "began_at": _TIME,
            "ends_at": _or_null(_TIME),
            "catalogue": _COUNT,
            "measured": _by_name(_list(_NUMBER, ""), "LLMs without a history: answers, quality, cost."),
            "cost_factor": _by_name(_NUMBER, "Change of an LLM's list price since its history."),
            "priced_by": _by_name({"type": "array"}, "List prices of the history's costs."),
            "paused": _by_name(pause, "Paused LLMs."),
            "billed": _COUNT,
            "correction": {"type": "object"},
            "clusters": _TEXT,
            "counters": counters,
            "open": _list(_FLAG, "Counters of budgets that are in the catalogue."),
        },
    }
