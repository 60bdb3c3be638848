"""JSON Schemas (2020-12) of the catalogue's topic: catalogues, pauses and top-ups.

The schema of a catalogue has the long form that the router writes. Rules over several fields are not in it:
names are unique, every LLM has a limit, and a budget has either one limit or limits by value.
"""

from __future__ import annotations

from routing.budgets.budget import MAX_COUNT, MAX_VALUE_CHARACTERS, SECONDS, UNITS, maximum
from routing.budgets.budget_schema import LIMITS, MAX_NAME_CHARACTERS
from routing.budgets.model import CAPABILITIES, MAX_PRICE, MAX_SLUG_CHARACTERS
from routing.budgets.money import MAX_USD
from routing.budgets.period import MAX_START_DAY
from routing.budgets.splits import SPLITS
from streams.messages.schema_parts import (
    FLAG,
    NUMBER,
    OFFSET,
    TEXT,
    TIME,
    JsonSchema,
    by_name,
    described,
    or_null,
    row_of,
)

_VISIBLE: JsonSchema = {"type": "string", "pattern": r"\S"}
_GROUP_FIELD: JsonSchema = {"type": "string", "pattern": r"^(metadata\.|header:)[\s\S]+$"}
_NAMES: JsonSchema = {"type": "array", "minItems": 1, "items": TEXT, "description": "Names or globs of LLMs."}


def _amount(description: str, most: float) -> JsonSchema:
    return {
        "description": description,
        "anyOf": [{"type": "null"}, {"type": "number", "minimum": 0, "maximum": most}],
    }


def _closed(needed: list[str], properties: dict[str, JsonSchema]) -> JsonSchema:
    return {
        "type": "object",
        "required": needed,
        "properties": properties,
        "additionalProperties": False,
    }


def _model_schema() -> JsonSchema:
    price = _amount("USD per million tokens.", MAX_PRICE)
    window = {"type": "integer", "minimum": 1, "maximum": 10**9, "description": "Tokens."}
    return _closed(
        ["name"],
        {
            "name": {**_VISIBLE, "maxLength": MAX_SLUG_CHARACTERS},
            "budget_usd": _amount("USD per period.", MAX_USD),
            **dict.fromkeys(("input_price", "output_price", "cached_input_price"), price),
            "batch_discount": _amount("Share by which tokens cost less in batches.", 1.0),
            "request_fee": _amount("USD per request.", MAX_USD),
            "context_window": or_null(window),
            "capabilities": or_null({"type": "array", "items": {"enum": list(CAPABILITIES)}}),
        },
    )


def _budget_schema() -> JsonSchema:
    whole = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
    by_unit = {name: _amount(f"In {unit}.", maximum(unit)) for name, unit in LIMITS.items()}
    budget = _closed(
        ["name"],
        {
            "name": {"type": "string", "pattern": r"^[^=]*[^=\s][^=]*$", "maxLength": MAX_NAME_CHARACTERS},
            **by_unit,
            "unit": {"enum": list(UNITS)},
            "models": _NAMES,
            "group_by": or_null(described(_GROUP_FIELD, "Field of the query; each value has a counter.")),
            **_limits(MAX_COUNT),
            "per": or_null({"enum": list(SECONDS), "description": "Makes the budget a rate."}),
            "required": described(FLAG, "A query without a value is rejected."),
            "max_values": described(whole, "Values with a counter of their own."),
        },
    )
    counts = [name for name, unit in LIMITS.items() if unit != "usd"]
    in_counts = [{"required": [name]} for name in counts]
    in_unit = {"required": ["unit"], "properties": {"unit": {"enum": [LIMITS[name] for name in counts]}}}
    return {**budget, "if": {"anyOf": [*in_counts, in_unit]}, "else": {"properties": _limits(MAX_USD)}}


def _limits(most: float) -> dict[str, JsonSchema]:
    limits = {
        "type": "object",
        "propertyNames": {"maxLength": MAX_VALUE_CHARACTERS},
        "additionalProperties": {"type": "number", "minimum": 0, "maximum": most},
        "description": "Limits by value.",
    }
    return {
        "limits": limits,
        "default": _amount("Limit of other values.", most),
        "burst": _amount("Maximum of a rate at once.", most),
    }


def _period_schema() -> JsonSchema:
    hour = {"type": "integer", "minimum": 0, "maximum": 23}
    calendars = [
        _closed(
            ["every"],
            {
                "every": {"const": every},
                "start_day": {"type": "integer", "minimum": 1, "maximum": day},
                "start_hour": hour,
                "time_zone": described(_VISIBLE, "IANA name."),
            },
        )
        for every, day in MAX_START_DAY.items()
    ]
    queries = {"type": "integer", "minimum": 1, "maximum": 10**12}
    seconds = {"type": "number", "minimum": 1, "maximum": 1e9}
    return {
        "oneOf": [
            *calendars,
            _closed(["queries"], {"queries": queries}),
            _closed(["seconds"], {"seconds": seconds}),
        ]
    }


def catalogue_schema() -> JsonSchema:
    """Return the schema of a version of the catalogue."""
    texts = {"type": "array", "minItems": 1, "items": TEXT}
    rule = _closed(["field", "values", "models"], {"field": _GROUP_FIELD, "values": texts, "models": _NAMES})
    catalogue = _closed(
        ["models"],
        {
            "models": {"type": "array", "minItems": 1, "items": _model_schema()},
            "budget_usd": _amount("Total that all LLMs share, in USD per period.", MAX_USD),
            "split": or_null({"enum": list(SPLITS), "description": "Divides the total over the LLMs."}),
            "budgets": or_null({"type": "array", "items": _budget_schema()}),
            "period": or_null(_period_schema()),
            "allow": or_null({"type": "array", "items": rule}),
        },
    )
    prices = row_of(or_null(NUMBER), or_null(NUMBER), description="Input and output, USD per million tokens.")
    return {
        "type": "object",
        "required": ["version", "catalogue"],
        "properties": {
            "version": described(OFFSET, "Number of the version, from 1."),
            "catalogue": catalogue,
            "priced_by": or_null(by_name(prices, "List prices of the history's costs, by LLM.")),
        },
    }


def pause_schema() -> JsonSchema:
    """Return the schema of a pause that an operator set."""
    until = described(NUMBER, "End in seconds since 1970; null: no end. As `since`: the LLM is resumed.")
    return {
        "type": "object",
        "required": ["since", "until"],
        "properties": {"since": TIME, "until": or_null(until)},
    }


def top_up_schema() -> JsonSchema:
    """Return the schema of a limit that an operator raised for one period."""
    amount = described(OFFSET, "Total of the period's top-ups, in the counter's smallest unit.")
    return {
        "type": "object",
        "required": ["period", "amount"],
        "properties": {"period": described(OFFSET, "Number of the period."), "amount": amount},
    }
