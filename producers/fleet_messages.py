"""What a fleet reads and writes: routed queries in, answers and outcomes out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from streams.messages import MAX_OUTCOME_USD, MAX_VALUE_BYTES, Outcome, Refused, encode_outcome

Headers = list[tuple[str, bytes | None]]

OURS = frozenset({"model", "messages", "stream", "stream_options", "n"})
"""Parameters that a query cannot set: the router chose the LLM, and one whole answer is asked for."""

LIMITS = ("max_completion_tokens", "max_tokens")
"""Names for the most tokens of an answer; newer LLMs know only the first, older endpoints only the second."""

MAX_ANSWER_BYTES = 2 * MAX_VALUE_BYTES
"""Of an answer's value. The topic takes half as much again, for headers: what it refuses is tried ever on."""

TRACE_HEADERS = {
    # W3C Trace Context: version, trace, parent and flags; later versions may add to it
    "traceparent": re.compile(rb"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]*)?"),
    "tracestate": re.compile(rb"[ -~]{1,512}"),
}
"""Headers that go on to the endpoint, and what they look like: anything else may be no header of HTTP."""


@dataclass(frozen=True)
class Work:
    """A query that was routed to this fleet's LLM.

    Parameters
    ----------
    id : str
    fields : dict
        The whole message.
    lane, lane_offset : int
        Its reservation: partition and offset that `routing` names, for the outcome.
    reserved : float
        USD that the router reserved.
    bound : int or None
        Tokens of an answer that `reserved` pays for; None: it is an estimate, and bounds nothing.
    headers : list of (str, bytes)
    """

    id: str
    fields: dict[str, Any]
    lane: int
    lane_offset: int
    reserved: float
    bound: int | None
    headers: Headers

    @property
    def chat(self) -> bool:
        """It carries messages rather than a prompt, so that the LLM's whole reply is wanted."""
        return "messages" in self.fields

    @property
    def trace(self) -> dict[str, str]:
        """W3C trace headers, to go on to the LLM; senders may have written anything into them."""
        return {name: value.decode("ascii") for name, value in self.headers if value is not None
                and name in TRACE_HEADERS and TRACE_HEADERS[name].fullmatch(value)}  # fmt: skip


@dataclass(frozen=True)
class Tokens:
    """Tokens that an LLM counted."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


@dataclass(frozen=True)
class Pricing:
    """List prices of an LLM, in USD per million tokens.

    Examples
    --------
    >>> Pricing(0.5, 1.5).cost(Tokens(prompt=1000, completion=200))
    0.0008
    """

    input_price: float
    output_price: float

    def cost(self, tokens: Tokens) -> float:
        """USD for these tokens."""
        return (tokens.prompt * self.input_price + tokens.completion * self.output_price) / 1e6


def read_work(value: bytes | None, headers: Sequence[tuple[str, bytes | None]] | None) -> Work:
    """A routed query out of a message's value.

    Raises
    ------
    Refused
        Stage "fleet": nobody could be told what became of it, because it does not say where it was routed.
    """
    if value is None:
        raise Refused("fleet", "value", "is null; only the router writes to an LLM's topic")
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Refused("fleet", "value", f"is not JSON ({error})") from None
    routing = fields.get("routing") if isinstance(fields, dict) else None
    if not isinstance(routing, dict):
        raise Refused("fleet", "routing", "is missing; only the router writes to an LLM's topic")
    identity, cost = fields.get("id"), routing.get("cost")
    places = [routing.get(name) for name in ("partition", "offset")]
    if not isinstance(identity, str) or not all(type(place) is int and place >= 0 for place in places):
        raise Refused("fleet", "routing", "has no id, partition and offset; only the router writes them")
    reserved = float(cost) if isinstance(cost, int | float) else 0.0
    lane, offset = (int(place) for place in places if place is not None)
    bound = routing.get("max_tokens")
    if bound is not None and not _is_count(bound):
        raise Refused("fleet", "routing.max_tokens", "is no whole number above 0; only the router writes it")
    return Work(identity, fields, lane, offset, reserved, bound, list(headers or ()))


def chat_request(work: Work, model: str) -> dict[str, Any]:
    """What is asked of the LLM, as a request of the chat completions API.

    Parameters
    ----------
    work : Work
        Its `messages` go as they are, else its prompt as the user's message; `parameters` go along.
    model : str
        Name of the LLM at its endpoint.

    Returns
    -------
    dict
        With one limit of the answer's tokens, the least of those that the query names and of what was
        reserved as a bound; none where there is no limit.

    Raises
    ------
    ValueError
        The query cannot be asked; names the field and the fix.
    """
    fields = work.fields
    messages = fields.get("messages")
    if messages is None:
        if not isinstance(fields.get("prompt"), str):
            raise ValueError("prompt: is no text; send `prompt` or `messages`")
        messages = [{"role": "user", "content": fields["prompt"]}]
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise ValueError("messages: is no list of objects; send them as the chat completions API has them")
    parameters = fields.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ValueError("parameters: is no object; send parameters of the chat completions API")
    request = {key: value for key, value in (parameters or {}).items() if key not in OURS}
    own = {name: request.pop(name, None) for name in LIMITS}
    limits = {f"parameters.{name}": most for name, most in own.items()}
    limits |= {"max_tokens": fields.get("max_tokens"), "routing.max_tokens": work.bound}
    named = {field: most for field, most in limits.items() if most is not None}
    for field, most in named.items():
        if not _is_count(most):
            raise ValueError(f"{field}: {most!r:.60} must be a whole number above 0")
    if named:
        # two at once, and an endpoint may go by the larger
        name = "max_tokens" if own["max_completion_tokens"] is None else "max_completion_tokens"
        request[name] = min(named.values())
    request |= {"model": model, "messages": messages}
    try:
        orjson.dumps(request)
    except TypeError as error:
        raise ValueError(f"messages, parameters: cannot be written as JSON ({error})") from None
    return request


def _is_count(number: object) -> bool:
    return type(number) is int and number > 0


def encode_answer(work: Work, model: str, cost: float, reply: dict[str, Any]) -> bytes:
    """An answer as a message's value: `reply` has answer, finish_reason, usage, error and so on."""
    fields = {
        "id": work.id,
        "model": model,
        **reply,
        "cost": cost,
        "partition": work.lane,
        "offset": work.lane_offset,
    }
    return orjson.dumps(fields)


def encode_spent(work: Work, model: str, cost: float) -> bytes | None:
    """The outcome that settles the query's reservation; cost in USD.

    None where it must stay as it is: less than what was spent of a bound would free money that is gone.
    """
    if work.bound is not None and cost > MAX_OUTCOME_USD:
        return None
    return encode_outcome(
        Outcome(work.id, model, min(cost, MAX_OUTCOME_USD), None, work.lane, work.lane_offset)
    )
