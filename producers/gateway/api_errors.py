"""Errors of the HTTP API, in the form that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
NO_RETRY = {"x-should-retry": "false"}
"""Header with which OpenAI's clients do not repeat a request: the repetition would be another query."""


class ApiError(Exception):
    """An error response.

    Parameters
    ----------
    status : int
    message : str
    kind : str
        `type` of the error, such as "invalid_request_error".
    code : str, optional
    param : str, optional
        The invalid field of the request.
    headers : mapping, optional
        Headers of the response.
    details : mapping, optional
        Further fields of the error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = INVALID_REQUEST,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.code, self.param = code, param
        self.headers, self.details = dict(headers or {}), dict(details or {})

    @property
    def body(self) -> dict[str, Any]:
        """The object that the response has as JSON."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error | self.details}


def invalid_field(param: str, reason: str) -> ApiError:
    """Return the error of an invalid field of a request."""
    return ApiError(400, f"{param}: {reason}", code="invalid_value", param=param)


def too_busy(message: str, retry_after: int) -> ApiError:
    """Return the error of a request that should be repeated after some seconds."""
    return ApiError(
        429,
        message,
        "rate_limit_error",
        code="too_many_requests",
        headers={"Retry-After": str(retry_after)},
    )
