"""Read the errors of endpoints, in the forms that different providers use."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

MAX_BODY_BYTES = 65_536
"""Maximum size of an error body that is passed on, in bytes."""

MAX_TEXT_CHARACTERS = 500
"""Maximum characters of an error text that are reported."""

UNIX_TIME_AFTER = 1e9
"""`Retry-After` values above this are Unix times, not durations."""

_TEXTS = ("message", "msg", "detail", "error_description", "title", "reason", "error")
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*s?\s*")


@dataclass(frozen=True)
class EndpointError:
    """An error of an endpoint, independent of its form.

    Parameters
    ----------
    status : int
        HTTP status; for a response with status 200, the status that its body names, else 200.
    code : str or None
        The endpoint's own code, if it is not a number.
    names : frozenset of str
        All names of the error (code, type, status, reason), in lower case.
    parameter : str or None
        The parameter that the error is about.
    text : str
        The endpoint's own text.
    retry_after : float or None
        Seconds to wait, if the endpoint names them.
    body : dict or None
        The JSON object, unless it is too long.
    """

    status: int
    code: str | None
    names: frozenset[str]
    parameter: str | None
    text: str
    retry_after: float | None
    body: dict[str, Any] | None

    @property
    def label(self) -> str:
        """Code of an answer with this error."""
        return self.code or (f"http_{self.status}" if self.status >= 300 else "endpoint_error")

    @property
    def message(self) -> str:
        """Text of the error, with its status if there is one."""
        return f"Error code: {self.status} - {self.text}" if self.status >= 300 else self.text


def read_error(status: int, headers: Mapping[str, str], body: Any, content: bytes = b"") -> EndpointError:
    """Read an error response.

    Parameters
    ----------
    status : int
        From the HTTP response.
    headers : mapping
        From the HTTP response.
    body : object
        The decoded content; None if it is not JSON.
    content : bytes
        The raw content; its beginning is the text of an error without one.

    Examples
    --------
    >>> error = read_error(400, {}, [{"error": {"code": 400, "message": "No key.", "status": "INVALID"}}])
    >>> error.text, error.label, sorted(error.names)
    ('No key.', 'http_400', ['invalid'])
    """
    if isinstance(body, list) and body and isinstance(body[0], dict):
        body = body[0]
    levels = list(_levels(body))
    words = [word for level in levels for word in _words(level)]
    if status < 400:
        named = (_status(level.get(name)) for level in levels for name in ("code", "status", "status_code"))
        status = next((number for number in named if number is not None), status)
    parameters = (level.get("param") for level in levels)
    code = levels[0].get("code") if levels else None
    return EndpointError(
        status=status,
        code=code if isinstance(code, str) and code and not code.isdigit() else None,
        names=frozenset(word.lower() for word in words),
        parameter=next((name for name in parameters if isinstance(name, str)), None),
        text=_text(levels, content),
        retry_after=_wait(headers, levels),
        body=body if isinstance(body, dict) and len(content) <= MAX_BODY_BYTES else None,
    )


def _levels(body: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects that may describe the error, the most specific first."""
    if isinstance(body, str):
        yield {"message": body}
    if not isinstance(body, dict):
        return
    for name in ("error", "errors", "detail"):
        inner = body.get(name)
        inner = inner[0] if isinstance(inner, list) and inner else inner
        if isinstance(inner, dict):
            yield _with_place(inner)
    yield body


def _with_place(fields: dict[str, Any]) -> dict[str, Any]:
    """Add the parameter of a validation error, which is the end of its `loc`."""
    place = fields.get("loc")
    if isinstance(place, list) and place and "param" not in fields:
        return fields | {"param": place[-1]}
    return fields


def _words(level: Mapping[str, Any]) -> Iterator[str]:
    for name in ("code", "type", "status", "reason"):
        word = level.get(name)
        if isinstance(word, str) and word and not word.isdigit():
            yield word
    details = level.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("reason"), str):
            yield detail["reason"]


def _status(value: object) -> int | None:
    if isinstance(value, str) and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None


def _text(levels: list[dict[str, Any]], content: bytes) -> str:
    texts = (level.get(name) for level in levels for name in _TEXTS)
    text = next((text for text in texts if isinstance(text, str) and text.strip()), "")
    # gateways add the text of the provider in their metadata
    for level in levels:
        metadata = level.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        if isinstance(raw, str) and raw.strip():
            text = f"{text}: {raw}" if text else raw
            break
    if not text:
        text = content[: 4 * MAX_TEXT_CHARACTERS].decode("utf-8", "replace")
    return _short(text) or "the response has no text"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[: MAX_TEXT_CHARACTERS - 3] + "..."


def _wait(headers: Mapping[str, str], levels: list[dict[str, Any]]) -> float | None:
    """Return the seconds to wait, from the headers or from the error itself."""
    if (seconds := retry_after(headers)) is not None:
        return seconds
    for level in levels:
        details = level.get("details")
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
                return retry_after({"retry-after": detail["retryDelay"]})
        metadata = level.get("metadata")
        inner = metadata.get("headers") if isinstance(metadata, dict) else None
        if isinstance(inner, dict):
            named = {str(name).lower(): str(value) for name, value in inner.items()}
            reset = named.get("retry-after") or named.get("x-ratelimit-reset")
            return None if reset is None else retry_after({"retry-after": reset})
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that a response names, or None.

    Accepts seconds, a date (RFC 9110, 10.2.3), Unix seconds or milliseconds, and `retry-after-ms`.

    Examples
    --------
    >>> retry_after({"retry-after": "7"}), retry_after({"retry-after-ms": "250"}), retry_after({})
    (7.0, 0.25, None)
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        number = _DURATION.fullmatch(headers.get(name, ""))
        if number is not None:
            return _from_now(float(number[1]) / unit)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    # a date without a time zone is in UTC
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _from_now(seconds: float) -> float | None:
    if seconds < UNIX_TIME_AFTER:
        return seconds
    if seconds == float("inf"):
        return None
    moment = seconds / 1000.0 if seconds >= UNIX_TIME_AFTER * 1000 else seconds
    return max(0.0, moment - time.time())
