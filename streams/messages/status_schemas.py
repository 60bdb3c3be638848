"""JSON Schemas (2020-12) of the status topic's messages: heartbeats, and points of the timeline.

Workers of several versions may write them. Their decoders need only the fields that every version writes.
"""

from __future__ import annotations

from streams.messages.schema_parts import (
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


def heartbeat_schema() -> JsonSchema:
    """Return the schema of a worker's heartbeat, which covers its last minute."""
    buckets = list_of(row_of(COUNT, COUNT), "Bucket of the histogram, and count.")
    return {
        "type": "object",
        "required": ["worker", "at", "started_at", "seconds"],
        "properties": {
            "worker": described(TEXT, "Name of the worker, also in the key."),
            "host": TEXT,
            "pid": COUNT,
            "at": TIME,
            "started_at": TIME,
            "ready": FLAG,
            "lanes": list_of(TEXT, "Topic and partition of each lane."),
            "pending": described(COUNT, "Queries that wait in the worker."),
            "queries_per_second": NUMBER,
            "cpu_ratio": described(NUMBER, "Processor seconds per second."),
            "memory_bytes": COUNT,
            "oldest_open": by_name(TIME, "Creation time of the oldest open reservation, by LLM."),
            "seconds": by_name(buckets, "Durations by stage."),
        },
    }


def timeline_point_schema() -> JsonSchema:
    """Return the schema of a point of the timeline; counts are totals of the period, amounts are USD."""
    by_llm = list_of(NUMBER, "By LLM.")
    quality = list_of(or_null(NUMBER), "Mean by LLM; null without an answer with a quality.")
    return {
        "type": "object",
        "required": ["at"],
        "properties": {
            "at": TIME,
            "period": described(COUNT, "Number of the period."),
            "version": described(COUNT, "Version of the plan."),
            "began_at": TIME,
            "progress": described(NUMBER, "Share of the period that is over."),
            **dict.fromkeys(("arrived", "unserved", "deferred", "dead"), COUNT),
            "lag": described(COUNT, "Queries that wait on all partitions."),
            "models": list_of(TEXT, "The LLMs, in the order of the lists."),
            **dict.fromkeys(("budget", "charged", "settled", "served", "price", "reported"), by_llm),
            "budgets": by_name(row_of(or_null(NUMBER), or_null(NUMBER)), "Limit and use of each counter."),
            "quality_reported": quality,
            "quality_estimated": quality,
        },
    }
