"""JSON Schemas (2020-12) of plans and bills: messages that only the router writes, and other tools read.

Their decoders trust the router, which alone writes them: they ignore unknown fields, and do not check values.
"""

from __future__ import annotations

from routing.budgets.budget import UNITS
from streams.messages.schema_parts import (
    AMOUNT,
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    TIME,
    JsonSchema,
    by_name,
    described,
    list_of,
    or_null,
    row_of,
)

_COUNTER_TOTAL: dict[str, JsonSchema] = {
    "budget": TEXT,
    "value": or_null(described(TEXT, "Value of the budget's `group_by`.")),
    "unit": {"enum": list(UNITS)},
    "charged": AMOUNT,
    "limit": or_null(AMOUNT),
    "by_llm": by_name(row_of(COUNT, AMOUNT, AMOUNT), "Queries served, picodollars reserved and settled."),
}
_COUNTER_TOTAL_NEEDED = ["budget", "value", "unit", "charged", "by_llm"]

_ALERTS = list_of(TEXT, "Thresholds in per cent that were reached, and `exhaustion` if it was forecast.")

_KEY = row_of(TEXT, or_null(TEXT), description="Budget, and value of its `group_by` or null.")


def period_schema() -> JsonSchema:
    """Return the schema of a period's bill: totals over all lanes, amounts in picodollars, lists by LLM."""
    amounts = list_of(AMOUNT, "Picodollars by LLM.")
    counts = list_of(COUNT, "Queries by LLM.")
    counter = {"type": "object", "required": _COUNTER_TOTAL_NEEDED, "properties": _COUNTER_TOTAL}
    return {
        "type": "object",
        "required": [
            *("period", "closed", "models", "budgets", "reserved", "settled", "charged", "served"),
            *("settlements", "lapsed", "arrived", "unserved", "deferred", "dead"),
        ],
        "properties": {
            "period": {**COUNT, "description": "Number of the period, from 1; also the key."},
            "closed": {**FLAG, "description": "Every lane has left the period."},
            "settling": {**FLAG, "description": "Totals can change."},
            "models": list_of(TEXT, "The LLMs, in the order of the lists."),
            "budgets": or_null(amounts),
            "reserved": amounts,
            "settled": amounts,
            "charged": amounts,
            **dict.fromkeys(("served", "settlements", "lapsed", "failed"), counts),
            **dict.fromkeys(("arrived", "unserved", "deferred", "dead"), COUNT),
            "again": {**COUNT, "description": "Decisions about returned queries."},
            "counters": list_of(counter, "Budgets without `group_by`; empty with one per LLM."),
            "alerts": by_name(_ALERTS, "Events of the budgets, by their names."),
        },
    }


def period_counter_schema() -> JsonSchema:
    """Return the schema of a bill's part for one value of a budget with `group_by`."""
    return {
        "type": "object",
        "required": ["period", *_COUNTER_TOTAL_NEEDED, "alerts"],
        "properties": {
            "period": described(COUNT, "Number of the period."),
            **_COUNTER_TOTAL,
            "alerts": _ALERTS,
        },
    }


def plan_schema() -> JsonSchema:
    """Return the schema of a whole plan, as the log of plans has it."""
    matrix = list_of({"type": "array", "items": AMOUNT}, "By lane and counter, the overflow lane last.")
    pause = {
        "type": "object",
        "required": ["reason", "since"],
        "properties": {
            "reason": TEXT,
            "since": TIME,
            "until": or_null(TIME),
            "share": described(NUMBER, "Share of the queries that test the LLM."),
            "backoff": described(NUMBER, "Seconds without queries before the tests."),
        },
    }
    counters = {
        "type": "object",
        "required": ["budgets", "keys"],
        "properties": {
            "budgets": list_of({"type": "object", "required": ["name", "models"]}, "As in the catalogue."),
            "keys": list_of(_KEY, "Budget and value of each counter."),
        },
    }
    return {
        "type": "object",
        "required": [
            *("period", "version", "revision", "models", "active", "budgets", "prices", "learned"),
            *("granted", "target", "overflow", "horizon"),
        ],
        "properties": {
            "period": {**COUNT, "description": "Number of the period."},
            "version": {**COUNT, "description": "Price solves over all periods."},
            "revision": {**COUNT, "description": "Number of changes."},
            "models": {**list_of(TEXT, "The LLMs, in the order of the lists."), "minItems": 1},
            "active": list_of(FLAG, "Open LLMs."),
            "budgets": list_of(AMOUNT, "Limit of each counter in its smallest unit."),
            "prices": list_of(NUMBER, "Quality per USD, per query or per token, by counter."),
            "learned": {**FLAG, "description": "There are prices."},
            "granted": matrix,
            "target": matrix,
            "overflow": {**FLAG, "description": "Lanes defer queries that they cannot pay."},
            "horizon": {**COUNT, "description": "Expected queries of the period."},
            "until": or_null(COUNT),
            "solved_from": {"type": "object", "description": "Origin of the prices."},
            "created_at": TIME,
            "began_at": TIME,
            "ends_at": or_null(TIME),
            "catalogue": COUNT,
            "measured": by_name(list_of(NUMBER, ""), "LLMs without a history: answers, quality, cost."),
            "cost_factor": by_name(NUMBER, "Change of an LLM's list price since its history."),
            "priced_by": by_name({"type": "array"}, "List prices of the history's costs."),
            "paused": by_name(pause, "Paused LLMs."),
            "billed": COUNT,
            "correction": {"type": "object"},
            "clusters": TEXT,
            "counters": counters,
            "open": list_of(FLAG, "Counters of budgets that are in the catalogue."),
            "topped_up": by_name(AMOUNT, "Amounts by counter that were added for this period only."),
            "reserve_offsets": by_name(
                list_of(NUMBER, "Of the reserved quantile."), "Corrections of the reserved cost, by LLM."
            ),
        },
    }


def plan_head_schema() -> JsonSchema:
    """Return the schema of a plan on its compacted topic, without counters that have messages of their own.

    Its `budgets`, `prices`, `open`, `granted`, `target` and `counters.keys` end before the first of these.
    """
    plan = plan_schema()
    size = described(COUNT, "All counters of the plan. Without it, the message has the whole plan.")
    return {
        **plan,
        "properties": {**plan["properties"], "size": size},
        "dependentRequired": {"size": ["counters", "open"]},
    }


def plan_counter_schema() -> JsonSchema:
    """Return the schema of one counter of a budget with `group_by`, on the compacted topic of plans."""
    amounts = list_of(row_of(COUNT, AMOUNT), "Lane and amount, of lanes whose amount is not 0.")
    return {
        "type": "object",
        "required": ["key", "budgets", "prices", "open", "granted", "target"],
        "properties": {
            "key": _KEY,
            "budgets": described(AMOUNT, "Limit of the counter in its smallest unit."),
            "prices": described(NUMBER, "Quality per USD, per query or per token."),
            "open": described(FLAG, "The budget is in the catalogue."),
            "granted": amounts,
            "target": amounts,
        },
    }
