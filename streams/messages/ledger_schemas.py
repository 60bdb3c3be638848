"""JSON Schemas (2020-12) of the messages that lanes write: ledgers, reservations and samples.

Their decoders trust the router, which alone writes them: they ignore unknown fields, and check few values.
"""

from __future__ import annotations

from routing.budgets.budget import UNITS
from routing.policy.account import COUNTER_VECTORS, COUNTS, LLM_VECTORS
from streams.messages.samples import SAMPLE_TYPES, TERM_TYPES
from streams.messages.schema_parts import (
    AMOUNT,
    COUNT,
    NUMBER,
    OFFSET,
    TEXT,
    TIME,
    JsonSchema,
    by_name,
    described,
    list_of,
    numbers_in_base64,
    or_null,
    row_of,
)

LEDGER_FORMAT = 2
"""Format of ledgers: accounts have counters, and counters of groups have records of their own."""

RESERVATION_COLUMNS = {
    "offsets": "<i8",
    "model": "<i2",
    "charge": "<i8",
    "quality": "<f4",
    "ids": "<u8",
    "attempts": "<i2",
    "uncorrected": "<f4",
    "cluster": "<i2",
}
"""Columns of reservations with one number per query, and their types before base64."""

_COLUMN_TEXTS = {
    "offsets": "Offset of the query in the lane's input, ascending.",
    "model": "Position of the LLM in the plan.",
    "charge": "Picodollars reserved.",
    "quality": "Estimated for the chosen LLM.",
    "ids": "Digest of the query's id: BLAKE2b of 8 bytes.",
    "attempts": "Number of the decision about the query.",
    "uncorrected": "Estimated quality before its correction by reported quality.",
    "cluster": "Task cluster of the query, -1 for none.",
}

_COUNTER_STATE: dict[str, JsonSchema] = {
    **dict.fromkeys(COUNTER_VECTORS, AMOUNT),
    "use": {
        "type": "object",
        "propertyNames": {"pattern": r"^[0-9]+$"},
        "additionalProperties": row_of(AMOUNT, AMOUNT, AMOUNT),
        "description": "By position of the LLM: queries served, picodollars reserved and settled.",
    },
}


def _object(needed: list[str], properties: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": "object", "required": needed, "properties": properties}


def ledger_counter_schema() -> JsonSchema:
    """Return the schema of a counter of a budget with `group_by`, in a lane's account of one period."""
    return _object([*_COUNTER_STATE], _COUNTER_STATE)


def _account_schema() -> JsonSchema:
    """Return the schema of an account; amounts are in the smallest unit of their counter."""
    amounts = list_of(AMOUNT, "By LLM.")
    by_counter = list_of(AMOUNT, "By LLM, with one budget per LLM.")
    budget = _object(
        ["name", "models"],
        {"name": TEXT, "unit": {"enum": list(UNITS)}, "models": list_of(TEXT, ""), "group_by": TEXT},
    )
    counter = row_of(TEXT, or_null(TEXT), AMOUNT, AMOUNT)
    return {
        "type": "object",
        "description": "Counts and amounts of one period.",
        "required": ["period", *LLM_VECTORS, *COUNTS],
        "properties": {
            "period": COUNT,
            **dict.fromkeys(LLM_VECTORS, amounts),
            **dict.fromkeys(COUNTS, COUNT),
            "released": by_counter,
            "charged": by_counter,
            "budgets": list_of(budget, "Budgets, unless there is one per LLM."),
            "counters": list_of(counter, "Budget, value of its `group_by`, amounts released and charged."),
            "states": list_of(ledger_counter_schema(), "By counter; only in samples."),
        },
        "if": {"required": ["counters"]},
        "then": {"required": ["budgets"]},
        "else": {"required": ["released", "charged"]},
    }


def ledger_schema() -> JsonSchema:
    """Return the schema of a lane's record, the last message of each of its transactions."""
    position = described(OFFSET, "Offset of the first record that is not processed.")
    sums = row_of(COUNT, NUMBER, NUMBER, NUMBER)
    clusters = row_of(list_of(NUMBER, "Answers."), list_of(NUMBER, "Sums of residuals."))
    return _object(
        ["format", "lane", "models", "account"],
        {
            "format": {"const": LEDGER_FORMAT},
            "lane": COUNT,
            "models": list_of(TEXT, "The LLMs, in the order of the account's lists."),
            "account": _account_schema(),
            "forgotten": described(COUNT, "Last period whose account is not kept."),
            "next": position,
            "sampled": described(OFFSET, "Offset of the first query without a sample."),
            "outcomes_next": position,
            "returned_next": position,
            "reservations_from": described(OFFSET, "First offset of reservations that may be open."),
            "version": described(COUNT, "Version of the last plan used."),
            "revision": described(COUNT, "Revision of the last plan used."),
            "outcomes": by_name(COUNT, "Outcomes since the beginning, by result."),
            "returns": by_name(COUNT, "Returned queries since the beginning, by result."),
            "reported": by_name(sums, "By LLM: answers with a quality; sums of quality, estimate and USD."),
            "oldest_open": by_name(TIME, "Creation time of the oldest open reservation, by LLM."),
            "residuals": by_name(clusters, "By LLM, each by task cluster."),
            "exceeded": by_name(row_of(COUNT, COUNT), "By LLM: answers, and those above their reservation."),
            "deleted": by_name(
                row_of(COUNT, COUNT, TIME),
                "By input, outcomes and returned: offsets deleted before they were read, first offset left, "
                "and time of the last detection.",
            ),
            "written_at": TIME,
        },
    )


def ledger_account_schema() -> JsonSchema:
    """Return the schema of a lane's account of a past period, in which outcomes still settle."""
    return _object(
        ["models", "account"],
        {
            "format": {"const": LEDGER_FORMAT},
            "lane": COUNT,
            "models": list_of(TEXT, "The LLMs, in the order of the account's lists."),
            "account": _account_schema(),
        },
    )


def reservations_schema() -> JsonSchema:
    """Return the schema of the reservations of one transaction of a lane, which served n queries."""
    columns = {
        name: numbers_in_base64(dtype, f"By query: {_COLUMN_TEXTS[name]}")
        for name, dtype in RESERVATION_COLUMNS.items()
    }
    position = {"type": "integer", "minimum": -1, "description": "-1 for decisions about returned queries."}
    return {
        **_object(
            ["period", "version", "revision", "outcomes_next", "created_at", "available", *columns],
            {
                "period": COUNT,
                "version": described(COUNT, "Version of the plan."),
                "revision": described(COUNT, "Revision of the plan."),
                "outcomes_next": described(OFFSET, "The lane's next outcome at that time."),
                "returned_next": described(OFFSET, "The lane's next returned query afterwards."),
                "created_at": TIME,
                "begin": position,
                "end": position,
                "available": list_of(AMOUNT, "Amount that the lane could spend before, by counter or LLM."),
                "returns": list_of(
                    row_of(OFFSET, COUNT, AMOUNT), "Returned reservations: offset, attempt and picodollars."
                ),
                **columns,
                "counters": list_of(row_of(TEXT, or_null(TEXT)), "Counters that queries could draw on."),
                "budgets": described(COUNT, "Number of budgets B."),
                "columns": numbers_in_base64("<i4", "[n, B]: position in `counters`, negative for none."),
                "tokens": numbers_in_base64("<i8", "By query: tokens reserved."),
            },
        ),
        "dependentRequired": {"counters": ["budgets", "columns"]},
    }


def samples_schema() -> JsonSchema:
    """Return the schema of samples: the estimates of n queries for M LLMs, with their lane's account."""
    order = "Base64 of little-endian numbers of type `dtype`, row by row: LLM j of query i is at i * M + j."
    estimates = numbers_in_base64("<f8", "")
    terms: dict[str, JsonSchema] = {
        "weight": numbers_in_base64(TERM_TYPES["weight"], "[n]: factor of the query's quality."),
        "eligible": numbers_in_base64(TERM_TYPES["eligible"], "[n, M]: 1 if the LLM may answer."),
        "tokens": numbers_in_base64(TERM_TYPES["tokens"], "[n, M]: tokens that the query reserves."),
        "values": by_name(list_of(TEXT, "[n]"), "Values of the queries, by field of `group_by`."),
    }
    return _object(
        ["period", "lane", "account", "models", "shape", "dtype", "quality", "cost"],
        {
            "period": COUNT,
            "lane": COUNT,
            "account": or_null(_account_schema()),
            "next": described(OFFSET, "Offset of the lane's first undecided query."),
            "begin": described(OFFSET, "First offset that the samples cover."),
            "end": described(OFFSET, "Offset behind the last one that the samples cover."),
            "models": list_of(TEXT, "The LLMs, in the order of the columns."),
            "clusters": list_of({"type": "integer"}, "[n]: task cluster of each query, -1 for none."),
            "shape": row_of(COUNT, COUNT, description="n and M."),
            "dtype": {"enum": list(SAMPLE_TYPES), "description": "Type of `quality` and `cost`."},
            "quality": described(estimates, f"[n, M]: estimated quality. {order}"),
            "cost": described(estimates, f"[n, M]: estimated USD. {order}"),
            "terms": or_null({"type": "object", "properties": terms, "description": "Terms of budgets."}),
        },
    )
