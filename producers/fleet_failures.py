"""What goes wrong when an endpoint is asked: whose fault it is, whether to ask again, whether it was paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai
import orjson

from producers.fleet_messages import Tokens

RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed."""

LOST_ON_THE_WAY = frozenset({502, 504, 520, 522, 524})
"""What gateways say that do not know what became of a request: the LLM may have answered all the same."""

SHUT_OUT = frozenset({403, 404})
"""The query's fault (moderation), or the set-up's (a permission or an LLM taken away): the others tell."""

NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"})

NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)

LONGEST_BODY = 65_536
"""Bytes of an error's body that are passed on."""


class EndpointRefusesUs(Exception):  # noqa: N818 - a state of the world: someone has to mend the set-up
    """No query would be answered: the key is wrong, the account is empty, or there is no such LLM."""


@dataclass
class Failure(Exception):  # noqa: N818 - data of one request
    """A request without a whole answer.

    Parameters
    ----------
    code, message : str
    again : bool
        The same request may succeed later.
    pause : float or None
        Seconds that the endpoint asks to wait.
    limited : bool
        It was refused for coming too fast, which says nothing about the query.
    shut_out : bool
        It may be the endpoint's word about us rather than about the query.
    tokens : Tokens
        Counted by the LLM all the same.
    unsure : bool
        It was sent, and nobody tells whether it was answered, and has to be paid for.
    status, body
        Of the HTTP response that refused it: a number, and the JSON object where there is one.
    """

    code: str
    message: str
    again: bool = True
    pause: float | None = None
    limited: bool = False
    shut_out: bool = False
    tokens: Tokens = field(default_factory=Tokens)
    unsure: bool = False
    status: int | None = None
    body: dict[str, Any] | None = None

    @property
    def may_be_paid(self) -> bool:
        """Asking again may cost a second answer."""
        return self.unsure or self.tokens != Tokens()

    @property
    def told(self) -> dict[str, Any]:
        """What an answer says of it: `code`, `message`, and `status` and `body` where it was refused."""
        refused = {} if self.status is None else {"status": self.status, "body": self.body}
        return {"code": self.code, "message": self.message, **refused}


def refusal(error: openai.APIStatusError, known: bool) -> Exception:
    """What a status other than 200 means.

    Parameters
    ----------
    error : openai.APIStatusError
    known : bool
        The LLM has answered before.
    """
    status, told = error.status_code, error.message
    if status == 401:
        return EndpointRefusesUs(f"api_key: the endpoint does not take it ({told}); set another")
    if status == 402 or error.code in NO_CREDIT:
        return EndpointRefusesUs(f"api_key: the account has no credit ({told}); top it up")
    if status == 404 and not known:
        return EndpointRefusesUs(f"base_url, model: there is no such LLM ({told}); correct them")
    again = status >= 500 or status in RETRIED
    return Failure(
        error.code or f"http_{status}",
        told,
        again,
        pause=retry_after(error.response.headers) if again else None,
        limited=status == 429,
        shut_out=status in SHUT_OUT,
        unsure=status in LOST_ON_THE_WAY,
        status=status,
        body=_body(error.response.content),
    )


def broken_connection(error: openai.OpenAIError) -> Exception:
    """What it means that there was no response."""
    cause = error.__cause__ or error
    if isinstance(cause, httpx2.UnsupportedProtocol):
        return EndpointRefusesUs(f"base_url: {cause}; correct it")
    return Failure("connection", str(cause), unsure=not isinstance(cause, NOT_SENT))


def _body(content: bytes) -> dict[str, Any] | None:
    """An error's JSON object; None of what is none, or of a whole page."""
    if len(content) > LONGEST_BODY:
        return None
    try:
        body = orjson.loads(content)
        orjson.dumps(body)  # what can be read is deeper than what can be written
    except (orjson.JSONDecodeError, TypeError):
        return None
    return body if isinstance(body, dict) else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait, or None; both forms of RFC 9110, 10.2.3, and milliseconds.

    Examples
    --------
    >>> retry_after({"retry-after": "7"}), retry_after({"retry-after-ms": "250"}), retry_after({})
    (7.0, 0.25, None)
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    # a date without a zone is one in UTC
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
