"""Limits of the gateway: size of a body, requests in flight, and time of a request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from producers.gateway.api_errors import ApiError, invalid_field, too_busy

CLIENT_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Headers with which OpenAI's clients send their own time limit, in seconds."""

RETRY_SECONDS = 1


@dataclass(frozen=True)
class GatewayLimits:
    """Limits of every request.

    Parameters
    ----------
    body_bytes : int
    in_flight : int
        Maximum number of requests that are read or wait for an answer.
    seconds : float
        Longest wait for an answer.
    file_bytes : int
        Maximum size of a file.
    """

    body_bytes: int = 4 * 2**20
    in_flight: int = 1000
    seconds: float = 600.0
    file_bytes: int = 100 * 2**20


class InFlight:
    """Counts the requests in flight and refuses those beyond a maximum."""

    def __init__(self, maximum: int) -> None:
        self.count, self.maximum = 0, maximum

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count a request for the length of a block.

        Raises
        ------
        ApiError
            Status 429 with Retry-After: too many requests are in flight.
        """
        if self.count >= self.maximum:
            raise too_busy(
                f"The gateway has {self.maximum} requests in flight; repeat this one later.", RETRY_SECONDS
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


async def read_body(request: Request, maximum: int) -> bytes:
    """Return the body of a request.

    Raises
    ------
    ApiError
        Status 413: it has more than `maximum` bytes.
    """
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not (declared.isdigit() and int(declared) > maximum):
        async for part in request.stream():
            body += part
            if len(body) > maximum:
                break
        else:
            return bytes(body)
    raise ApiError(
        413,
        f"The body has more than {maximum} bytes, which the gateway does not accept.",
        code="request_too_large",
        headers={"Connection": "close"},
    )


def request_seconds(headers: Mapping[str, str], maximum: float) -> float:
    """Return the time limit of a request: the client's own if it is shorter.

    Raises
    ------
    ApiError
        Status 400: the client's limit is not a number of seconds.
    """
    for name in CLIENT_TIMEOUTS:
        if (text := headers.get(name)) is None:
            continue
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise invalid_field(name, f"{text[:60]!r} must be a number of seconds above 0")
        return min(seconds, maximum)
    return maximum
