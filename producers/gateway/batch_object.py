"""Batches as objects: their states, and how the API shows them."""

from __future__ import annotations

from typing import Any

from producers.gateway.object_store import StoredObject

ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
WINDOW_SECONDS = 24 * 3600.0
ENDED = frozenset({"completed", "failed", "cancelled", "expired"})
TIMES = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)
CANCEL = "cancel:"
"""Prefix of the object that asks for the end of a batch. The batch's own object has one writer at a time."""


def batch_object(identity: str, fields: StoredObject, cancelling: StoredObject | None) -> dict[str, Any]:
    """Return a batch as the API shows it.

    Parameters
    ----------
    identity : str
    fields : dict
    cancelling : dict or None
        The object that asks for its end.
    """
    status = fields["status"]
    times = {name: fields.get(name) for name in TIMES}
    if cancelling is not None and status not in ENDED:
        status, times["cancelling_at"] = "cancelling", int(cancelling["created_at"])
    errors = fields.get("errors")
    return {
        "id": identity,
        "object": "batch",
        "endpoint": ENDPOINT,
        "completion_window": WINDOW,
        "created_at": int(fields["created_at"]),
        "expires_at": int(fields["created_at"] + WINDOW_SECONDS),
        "status": status,
        "input_file_id": fields["input_file_id"],
        "output_file_id": fields.get("output_file_id"),
        "error_file_id": fields.get("error_file_id"),
        "errors": {"object": "list", "data": errors} if errors else None,
        "request_counts": fields.get("counts") or {"total": 0, "completed": 0, "failed": 0},
        "metadata": fields.get("metadata"),
        **times,
    }
