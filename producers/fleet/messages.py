"""Messages of a fleet: routed queries, answers and outcomes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streams.messages import exact_json
from streams.messages.fields import (
    MAX_VALUE_BYTES,
)
from streams.messages.headers import Header, Headers
from streams.messages.outcome import (
    MAX_OUTCOME_USD,
    OK,
    Outcome,
    encode_outcome,
)
from streams.messages.query import RESERVED_PARAMETERS
from streams.messages.query_limits import decode_deadline
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.routing_info import RoutingInfo, RoutingInfoError

LIMITS = ("max_completion_tokens", "max_tokens")
"""Names of the token limit: newer LLMs accept only the first, older servers only the second."""

MAX_ANSWER_BYTES = 2 * MAX_VALUE_BYTES
"""Maximum size of an answer's value. The topic accepts 50 % more, for headers, so that no commit fails."""

TRACE_HEADERS = {
    # W3C Trace Context: version, trace, parent and flags; later versions may append fields
    "traceparent": re.compile(rb"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]*)?"),
    "tracestate": re.compile(rb"[ -~]{1,512}"),
}
"""Headers forwarded to the endpoint, and their valid values; others may be invalid in HTTP."""


@dataclass(frozen=True)
class RoutedQuery:
    """A query that was routed to this fleet's LLM.

    Parameters
    ----------
    id : str
    fields : dict
        The whole message.
    lane, lane_offset : int
        Partition and offset of its reservation, from `routing`; the outcome repeats them.
    reserved : float
        USD that the router reserved.
    bound : int or None
        Answer tokens that `reserved` pays for; None if an answer may cost more.
    limit : int or None
        Answer tokens that the router permits.
    attempt : int
        Number of the router's decision; the outcome repeats it.
    headers : list of (str, bytes)
    """

    id: str
    fields: dict[str, Any]
    lane: int
    lane_offset: int
    reserved: float
    bound: int | None
    headers: Headers
    attempt: int = 1
    limit: int | None = None

    @property
    def chat(self) -> bool:
        """True if it carries messages instead of a prompt; its answer then has the whole response."""
        return self.fields.get("messages") is not None

    def has_expired(self, now: float) -> bool:
        """Return True if the query's deadline has passed at a time in seconds since 1970."""
        try:
            deadline = decode_deadline(self.fields)
        except RejectedMessage:  # the router lets no such query pass
            return False
        return deadline is not None and deadline <= 1000 * now

    @property
    def trace(self) -> dict[str, str]:
        """Valid W3C trace headers, to forward to the endpoint."""
        return {
            name: value.decode("ascii")
            for name, value in self.headers
            if value is not None and name in TRACE_HEADERS and TRACE_HEADERS[name].fullmatch(value)
        }


@dataclass(frozen=True)
class Tokens:
    """Token counts of an LLM.

    Parameters
    ----------
    prompt, completion : int
        Reasoning counts as completion.
    cached : int
        Tokens of the prompt that the provider read from its cache.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.prompt + other.prompt, self.completion + other.completion, self.cached + other.cached
        )


@dataclass(frozen=True)
class Pricing:
    """Prices at which an LLM's provider bills.

    Parameters
    ----------
    input_price, output_price : float
        USD per million tokens.
    cached_input_price : float, optional
        USD per million tokens of the prompt that the provider read from its cache; by default `input_price`.
    request_fee : float
        USD per request.
    discount : float
        Share by which tokens cost less, 0 to 1, as in a provider's batches.

    Examples
    --------
    >>> Pricing(0.5, 1.5).cost(Tokens(prompt=1000, completion=200))
    0.0008
    >>> Pricing(0.5, 1.5, cached_input_price=0.25).cost(Tokens(prompt=1000, completion=200, cached=800))
    0.0006
    """

    input_price: float
    output_price: float
    cached_input_price: float | None = None
    request_fee: float = 0.0
    discount: float = 0.0

    def cost(self, tokens: Tokens, requests: int = 0) -> float:
        """Return the cost in USD of tokens, and of the fees of requests."""
        cached = min(tokens.cached, tokens.prompt)
        cached_price = self.input_price if self.cached_input_price is None else self.cached_input_price
        prompt = (tokens.prompt - cached) * self.input_price + cached * cached_price
        usd = (prompt + tokens.completion * self.output_price) / 1e6
        return usd * (1 - self.discount) + requests * self.request_fee


def decode_routed_query(value: bytes | None, headers: Sequence[Header] | None) -> RoutedQuery:
    """Decode a routed query.

    Raises
    ------
    RejectedMessage
        Stage "fleet": its reservation is unknown, so no outcome can be sent for it.
    """
    if value is None:
        raise RejectedMessage(RejectionReason.FLEET_NULL_VALUE, "value")
    try:
        fields = exact_json.decode(value)
    except ValueError as error:
        raise RejectedMessage(RejectionReason.FLEET_NOT_JSON, "value", error=error) from None
    try:
        routing = RoutingInfo.decode(fields)
    except RoutingInfoError as error:
        raise RejectedMessage(RejectionReason.NOT_ROUTED, error.field, problem=error.reason) from None
    identity = fields.get("id")
    if not isinstance(identity, str):
        raise RejectedMessage(RejectionReason.NOT_ROUTED, "id", problem="is missing")
    return RoutedQuery(
        identity,
        fields,
        routing.partition,
        routing.offset,
        routing.cost or 0.0,
        routing.bound,
        list(headers or ()),
        routing.attempt,
        routing.max_tokens,
    )


def chat_request(work: RoutedQuery, model: str) -> dict[str, Any]:
    """Return the query as a request of the chat completions API.

    Parameters
    ----------
    work : RoutedQuery
        Its `messages` or, without them, its prompt become the messages; its `parameters` are added.
    model : str
        Name of the LLM at its endpoint.

    Returns
    -------
    dict
        The request. `max_tokens` is the minimum of the limits that the query and the router name;
        it is missing if there is no limit. It is renamed for the endpoint when the request is sent.

    Raises
    ------
    ValueError
        The query is invalid; the message names the field and the fix.
    """
    fields = work.fields
    messages = fields.get("messages")
    if messages is None:
        if not isinstance(fields.get("prompt"), str):
            raise ValueError("prompt: is not a string; send `prompt` or `messages`")
        messages = [{"role": "user", "content": fields["prompt"]}]
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise ValueError("messages: is not a list of objects; send messages of the chat completions API")
    parameters = fields.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ValueError("parameters: is not an object; send parameters of the chat completions API")
    request = {key: value for key, value in (parameters or {}).items() if key not in RESERVED_PARAMETERS}
    own = {name: request.pop(name, None) for name in LIMITS}
    limits = {f"parameters.{name}": limit for name, limit in own.items()}
    limits |= {"max_tokens": fields.get("max_tokens"), "routing.max_tokens": work.limit}
    named = {field: limit for field, limit in limits.items() if limit is not None}
    for field, limit in named.items():
        if not _is_count(limit):
            raise ValueError(f"{field}: {limit!r:.60} must be a whole number above 0")
    if named:
        request["max_tokens"] = min(named.values())
    request |= {"model": model, "messages": messages}
    try:
        exact_json.encode(request)
    except TypeError as error:
        raise ValueError(f"messages, parameters: cannot be encoded as JSON ({error})") from None
    return request


def _is_count(number: object) -> bool:
    return type(number) is int and number > 0


def encode_answer(work: RoutedQuery, model: str, cost: float, reply: dict[str, Any]) -> bytes:
    """Encode an answer; `reply` has answer, finish_reason, usage, error and so on."""
    fields = {
        "id": work.id,
        "model": model,
        **reply,
        "cost": cost,
        "partition": work.lane,
        "offset": work.lane_offset,
        "attempt": work.attempt,
    }
    return exact_json.encode(fields)


def encode_spent(
    work: RoutedQuery, model: str, cost: float, status: str = OK, quality: float | None = None
) -> bytes | None:
    """Encode the outcome that settles the query's reservation; cost in USD, quality if it was graded.

    Return None if the cost of a bounded query exceeds the maximum of an outcome: a lower cost would release
    money that was spent, so the reservation stays.
    """
    if work.bound is not None and cost > MAX_OUTCOME_USD:
        return None
    spent = min(cost, MAX_OUTCOME_USD)
    return encode_outcome(
        Outcome(work.id, model, spent, quality, work.lane, work.lane_offset, work.attempt, status)
    )
