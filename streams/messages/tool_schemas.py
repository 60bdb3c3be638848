"""JSON Schemas (2020-12) of messages of the programs around the router: replays, batches and gateways."""

from __future__ import annotations

from streams.messages.gateway_object import COMMON_FIELDS, OBJECT_FIELDS
from streams.messages.schema_parts import (
    COUNT,
    NUMBER,
    OFFSET,
    TEXT,
    TIME,
    JsonSchema,
    by_name,
    described,
    list_of,
    or_null,
)

BATCH_STATUSES = (
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "cancelled",
    "expired",
)
"""States of a batch of the gateway."""

BATCH_TIMES = ("in_progress_at", "finalizing_at", *(f"{status}_at" for status in BATCH_STATUSES[3:]))
"""Times of a batch, whole seconds since 1970."""


def replay_marker_schema() -> JsonSchema:
    """Return the schema of the marker of a replayed dead letter."""
    digest = {"type": "string", "description": "SHA-256 of the message's key, value and headers."}
    return {
        "type": "object",
        "required": ["at", "content"],
        "properties": {
            "at": described(NUMBER, "Time of the replay, in seconds since 1970."),
            "content": digest,
        },
    }


def batch_progress_schema() -> JsonSchema:
    """Return the schema of the progress of a batch of `producers.batch`, or of the gateway."""
    offsets = {
        "type": "object",
        "propertyNames": {"pattern": r"^[0-9]+$"},
        "additionalProperties": OFFSET,
    }
    return {
        "type": "object",
        "required": ["requests", "sent", "since", "begun_at"],
        "properties": {
            "requests": described(OFFSET, "Requests in the batch."),
            "sent": described(OFFSET, "Requests that are on `queries`, from the first of the file."),
            "since": by_name(offsets, "First offsets of possible answers, by topic and partition."),
            "begun_at": TIME,
        },
    }


def gateway_object_schema() -> JsonSchema:
    """Return the schema of an object that gateways share; null deletes it."""
    return {"anyOf": [{"type": "null"}, *(_object_schema(kind) for kind in OBJECT_FIELDS)]}


def _object_schema(kind: str) -> JsonSchema:
    return {
        "type": "object",
        "title": kind,
        "required": [*COMMON_FIELDS, *OBJECT_FIELDS[kind]],
        "properties": {
            "kind": {"const": kind},
            "owner": described(TEXT, "Name of the caller."),
            "created_at": TIME,
            **_properties_of(kind),
        },
    }


def _properties_of(kind: str) -> dict[str, JsonSchema]:
    claim: dict[str, JsonSchema] = {
        "fingerprint": described(TEXT, "SHA-256 of the request."),
        "claim": described(TEXT, "Of several claims of an id, the first one holds."),
        "after": described(TEXT, "The lapsed claim that this one replaces."),
    }
    counts = {
        "type": "object",
        "required": ["total", "completed", "failed"],
        "properties": dict.fromkeys(("total", "completed", "failed"), COUNT),
    }
    error = {
        "type": "object",
        "required": ["code", "line", "message", "param"],
        "properties": {"code": TEXT, "line": or_null(COUNT), "message": TEXT, "param": or_null(TEXT)},
    }
    by_kind: dict[str, dict[str, JsonSchema]] = {
        "claim": claim,
        "response": {
            **claim,
            "request": {"type": "object", "description": "Fields that the response repeats."},
            "deadline": TIME,
        },
        "file": {
            "filename": TEXT,
            "purpose": TEXT,
            "bytes": COUNT,
            "partition": described(COUNT, "Partition of the pieces on `gateway.files`."),
            "first": described(OFFSET, "Offset of the first piece."),
            "end": described(OFFSET, "Offset behind the last piece."),
        },
        "batch": {
            "owner_metadata": by_name(TEXT, "Added to the metadata of each query."),
            "status": {"enum": list(BATCH_STATUSES)},
            "input_file_id": TEXT,
            "output_file_id": TEXT,
            "error_file_id": TEXT,
            "metadata": or_null({"type": "object"}),
            "heartbeat": described(NUMBER, "Seconds since 1970; 0 if the gateway has left the batch."),
            "runner": described(TEXT, "Gateway that works on the batch."),
            "counts": counts,
            "errors": list_of(error, "Why the file is invalid."),
            **dict.fromkeys(BATCH_TIMES, COUNT),
        },
        "cancel": {},
    }
    return by_kind[kind]
