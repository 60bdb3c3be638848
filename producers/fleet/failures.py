"""Failed requests: their fault, whether to retry them, and whether they were paid for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from producers.fleet.endpoint_errors import EndpointError
from producers.fleet.messages import Tokens

RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed."""

GATEWAY_FAILURES = frozenset({502, 504, 520, 522, 524})
"""Statuses of gateways that lost track of a request: the LLM may have answered it."""

ACCESS_DENIED = frozenset({403, 404})
"""Statuses caused by the query (moderation) or by the configuration (a withdrawn permission or LLM)."""

BAD_KEY = frozenset(
    {
        "api_key_invalid",
        "authentication_error",
        "incorrect_api_key_error",
        "invalid_api_key",
        "invalid_authentication",
        "invalid_authentication_error",
        "unauthenticated",
        "unauthorized",
    }
)

NO_CREDIT = frozenset(
    {
        "account_deactivated",
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "insufficient_quota",
        "insufficient_user_quota",
    }
)

ABOUT_THE_QUERY = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "context_length_exceeded",
        "string_above_max_length",
    }
)
"""Errors about the content of a query, which only a working endpoint returns."""

NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


class EndpointAccessError(Exception):
    """The endpoint answers no query: the key is invalid, the account is empty, or the LLM does not exist."""


class EndpointUnavailableError(EndpointAccessError):
    """The endpoint answers no query now and may recover: it is down, overloaded or limits its rate."""


@dataclass
class RequestFailure(Exception):  # noqa: N818 - data of one request
    """A request without a complete answer.

    Parameters
    ----------
    code, message : str
    retryable : bool
        The same request may succeed later.
    pause : float or None
        Seconds to wait that the endpoint named.
    limited : bool
        A rate limit rejected it, which says nothing about the query.
    passing : bool
        The endpoint may be unavailable or overloaded, and may recover by itself.
    shut_out : bool
        It may be about permissions rather than about the query.
    own : bool
        Only this query can be at fault.
    tokens : Tokens
        Tokens counted by the LLM although there is no answer.
    unsure : bool
        It was sent, and may have been answered and have to be paid for.
    status, body
        Status and JSON object of the error response, if there is one.
    error : EndpointError or None
        The endpoint's error.
    """

    code: str
    message: str
    retryable: bool = True
    pause: float | None = None
    limited: bool = False
    passing: bool = False
    shut_out: bool = False
    own: bool = False
    tokens: Tokens = field(default_factory=Tokens)
    unsure: bool = False
    status: int | None = None
    body: dict[str, Any] | None = None
    error: EndpointError | None = None

    @property
    def may_be_paid(self) -> bool:
        """True if a retry may pay for a second answer."""
        return self.unsure or self.tokens != Tokens()

    @property
    def returnable(self) -> bool:
        """True if another LLM may answer the query: it is not an error of the query itself."""
        of_query = self.status is not None and 400 <= self.status < 500
        return not of_query or self.passing or self.shut_out or self.own

    def to_dict(self) -> dict[str, Any]:
        """Return the error of an answer: `code`, `message`, and the response's `status` and `body` if any."""
        response = {} if self.status is None else {"status": self.status, "body": self.body}
        return {"code": self.code, "message": self.message, **response}


def refusal(
    error: EndpointError, known: bool, tokens: Tokens | None = None, unsure: bool | None = None
) -> Exception:
    """Return the exception for an error of the endpoint.

    Parameters
    ----------
    error : EndpointError
    known : bool
        Whether the LLM has answered before.
    tokens : Tokens, optional
        Tokens counted by the LLM although there is no answer.
    unsure : bool, optional
        Whether the request may have to be paid for; by default the status decides.
    """
    status, text = error.status, error.message
    if status == 401 or error.names & BAD_KEY:
        return EndpointAccessError(f"api_key: the endpoint rejects it ({text}); set a valid key")
    if status == 402 or error.names & NO_CREDIT:
        return EndpointAccessError(f"api_key: the account has no credit ({text}); top it up")
    if status == 404 and not known:
        return EndpointAccessError(f"base_url, model: the LLM does not exist ({text}); correct them")
    passing = status >= 500 or status in RETRIED
    retryable = passing or status < 300
    return RequestFailure(
        error.label,
        text,
        retryable,
        pause=error.retry_after if retryable else None,
        limited=status == 429,
        passing=passing,
        shut_out=status in ACCESS_DENIED,
        own=400 <= status < 500 and bool(error.names & ABOUT_THE_QUERY),
        tokens=tokens or Tokens(),
        unsure=status in GATEWAY_FAILURES if unsure is None else unsure,
        status=status if status >= 300 else None,
        body=error.body if status >= 300 else None,
        error=error,
    )


def broken_connection(error: openai.OpenAIError) -> Exception:
    """Return the exception for a request without a response."""
    cause = error.__cause__ or error
    if isinstance(cause, httpx2.UnsupportedProtocol):
        return EndpointAccessError(f"base_url: {cause}; correct it")
    text = str(cause) or type(cause).__name__
    return RequestFailure("connection", text, passing=True, unsure=not isinstance(cause, NOT_SENT))
