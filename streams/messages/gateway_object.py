"""Objects that gateways share on `gateway.objects`: claims, responses, files, batches and cancellations."""

from __future__ import annotations

from typing import Any

from streams.messages.fields import decode_object
from streams.messages.internal_fields import invalid_field, text_field, time_field

COMMON_FIELDS = ("kind", "owner", "created_at")
"""Fields of every object."""

OBJECT_FIELDS: dict[str, tuple[str, ...]] = {
    "claim": ("fingerprint", "claim"),
    "response": ("fingerprint", "claim", "request", "deadline"),
    "file": ("filename", "purpose", "bytes", "partition", "first", "end"),
    "batch": ("owner_metadata", "status", "input_file_id", "heartbeat", "runner"),
    "cancel": (),
}
"""Further fields that each object of a kind has."""

DELETION = b"null"
"""Value of a message that deletes an object."""


def decode_gateway_object(value: bytes | None) -> dict[str, Any] | None:
    """Return the fields of an object; None if the message deletes it.

    Objects of unknown kinds, from newer gateways, are accepted.

    Raises
    ------
    RejectedMessage
        No gateway wrote it.

    Examples
    --------
    >>> decode_gateway_object(b'{"kind": "cancel", "owner": "search", "created_at": 7.5}')["owner"]
    'search'
    """
    if value is None or value == DELETION:
        return None
    fields = decode_object(value)
    kind = text_field(fields, "kind")
    text_field(fields, "owner")
    time_field(fields, "created_at")
    for name in OBJECT_FIELDS.get(kind, ()):
        if fields.get(name) is None:
            raise invalid_field(fields, name, f"a value in a {kind}")
    return fields
