"""Ids of queries: new for each request, or the same for every request with the same idempotency key."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from producers.gateway.api_errors import invalid_field
from producers.gateway.keys import Caller
from streams.messages import exact_json

IDEMPOTENCY_HEADER = "idempotency-key"
MAX_KEY_CHARACTERS = 255


def query_identity(prefix: str, caller: Caller, headers: Mapping[str, str]) -> tuple[str, bool]:
    """Return the id of a request's query, and whether it comes from an idempotency key.

    Parameters
    ----------
    prefix : str
        Such as "chatcmpl-".
    caller : Caller
        Keys of different owners are different.
    headers : mapping
        Of the request.

    Raises
    ------
    ApiError
        Status 400: the key is empty or too long.
    """
    key = headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return f"{prefix}{uuid.uuid4().hex}", False
    if not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise invalid_field("Idempotency-Key", f"must have 1 to {MAX_KEY_CHARACTERS} characters")
    digest = hashlib.sha256(f"{prefix}\0{caller.name}\0{key}".encode()).hexdigest()
    return f"{prefix}{digest[:32]}", True


def fingerprint(body: Mapping[str, Any]) -> str:
    """Return a digest by which two requests with the same key are recognised as different."""
    return hashlib.sha256(exact_json.encode(dict(body))).hexdigest()
