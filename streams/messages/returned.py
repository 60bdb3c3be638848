"""Returned queries: a routed query as it came, with the reason, the cost and the requests in headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from streams.messages.fields import decode_object, text_id
from streams.messages.headers import Header, Headers
from streams.messages.json_bytes import remove_members
from streams.messages.outcome import MAX_OUTCOME_USD
from streams.messages.query import ADDED_FIELDS
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.routing_info import RoutingInfo, RoutingInfoError

REASON_HEADER = "__router.return.reason"
COST_HEADER = "__router.return.cost"
REQUESTS_HEADER = "__router.return.requests"
RETURN_HEADERS = (REASON_HEADER, COST_HEADER, REQUESTS_HEADER)

MAX_REASON_CHARACTERS = 500


class ReturnedQuery(NamedTuple):
    """A query that a fleet could not answer, and the attempt that it returns.

    Attributes
    ----------
    id : str
    routing : RoutingInfo
        Of the attempt. `partition`, `offset` and `attempt` name its reservation.
    model : str
        The LLM that did not answer.
    reason : str
    cost : float
        USD that the attempt cost nevertheless.
    headers : list of (str, bytes)
        The query's own headers.
    """

    id: str
    routing: RoutingInfo
    model: str
    reason: str
    cost: float
    headers: Headers

    @property
    def tried(self) -> tuple[str, ...]:
        """All LLMs that returned the query, this one last."""
        return (*(self.routing.tried or ()), self.model)


def return_headers(reason: str, cost: float, requests: int = 0) -> Headers:
    """Return the headers that a fleet appends to those of a query that it returns.

    Parameters
    ----------
    reason : str
        Cut at 500 characters.
    cost : float
        USD that the requests cost.
    requests : int
        Requests that were sent.

    Examples
    --------
    >>> return_headers("timeout", 0.0, 5)[0]
    ('__router.return.reason', b'timeout')
    """
    texts = (reason[:MAX_REASON_CHARACTERS], repr(float(cost)), str(requests))
    return [(name, text.encode("utf-8", "replace")) for name, text in zip(RETURN_HEADERS, texts, strict=True)]


def decode_returned(value: bytes | None, headers: Sequence[Header] | None) -> ReturnedQuery:
    """Decode a returned query.

    Parameters
    ----------
    value : bytes or None
        Value of the message on the LLM's topic.
    headers : sequence of (str, bytes) or None
        Headers of that message, then those of `return_headers`. The number of requests may be missing.

    Raises
    ------
    RejectedMessage
        Stage "decode", with the first invalid field or header.

    Examples
    --------
    >>> routed = b'{"id":"a","routing":{"model":"gpt-4","partition":0,"offset":7,"attempt":1}}'
    >>> decode_returned(routed, return_headers("timeout", 0.25)).cost
    0.25
    """
    fields = decode_object(value)
    try:
        routing = RoutingInfo.decode(fields)
        if routing.model is None:
            raise RoutingInfoError("routing.model", "is missing")
    except RoutingInfoError as error:
        raise RejectedMessage(RejectionReason.NOT_A_ROUTED_QUERY, error.field, problem=error.reason) from None
    own, return_fields = _split(headers or ())
    return ReturnedQuery(
        text_id(fields),
        routing,
        routing.model,
        _reason(return_fields),
        _cost(return_fields.get(COST_HEADER)),
        own,
    )


def _split(headers: Sequence[Header]) -> tuple[Headers, dict[str, bytes | None]]:
    """Split off the last header of each name; a client's headers of the same names stay."""
    own, return_fields = list(headers), dict[str, bytes | None]()
    for place in range(len(own) - 1, -1, -1):
        name, value = own[place]
        if name in RETURN_HEADERS and name not in return_fields:
            return_fields[name] = value
            del own[place]
    return own, return_fields


def _reason(return_fields: dict[str, bytes | None]) -> str:
    reason = (return_fields.get(REASON_HEADER) or b"").decode("utf-8", "replace").strip()
    if not reason:
        raise RejectedMessage(
            RejectionReason.INVALID_RETURN_HEADER,
            "headers",
            header=REASON_HEADER,
            shown="missing or empty",
            expected="the reason as text",
        )
    return reason[:MAX_REASON_CHARACTERS]


def _cost(value: bytes | None) -> float:
    try:
        cost = float(value or b"")
    except ValueError:
        cost = math.nan
    if not 0 <= cost <= MAX_OUTCOME_USD:
        raise RejectedMessage(
            RejectionReason.INVALID_RETURN_HEADER,
            "headers",
            header=COST_HEADER,
            shown="missing" if value is None else repr(value.decode("utf-8", "replace"))[:60],
            expected=f"USD, from 0 to {MAX_OUTCOME_USD:g}",
        )
    return cost


def without_routing(value: bytes) -> bytes:
    """Return the bytes of a routed query as it was before the router added `routing`.

    Examples
    --------
    >>> without_routing(b'{"id":"a","prompt":"Why?","routing":{"partition":0,"offset":7}}')
    b'{"id":"a","prompt":"Why?"}'
    """
    return remove_members(value, ADDED_FIELDS)
