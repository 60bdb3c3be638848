"""Outcomes: the actual costs of answered queries, reported by fleets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from streams.messages.fields import decode_object, number_field, shown_value, text_id
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.routing_info import MAX_ATTEMPT

MAX_OUTCOME_USD = 1000.0
"""Maximum cost of one answer. Thousands of these fit a ledger's integers; token counts would not."""


MAX_OUTCOME_TOKENS = 1_000_000_000

OK, FAILED, EXPIRED = "ok", "failed", "expired"
OUTCOME_STATUSES = (OK, FAILED, EXPIRED)
"""The LLM answered, or only the query was at fault; the LLM failed; the deadline had passed."""


@dataclass(slots=True)
class Outcome:
    """The actual cost of an answer in USD, and its quality from 0 to 1 if it is known.

    `partition`, `offset` and `attempt` name the reservation, as the query's `routing` does. `status` is one
    of `OUTCOME_STATUSES`. `tokens` are the tokens of prompt and answer, if they are known.
    """

    id: str
    model: str
    cost: float
    quality: float | None
    partition: int
    offset: int
    attempt: int = 1
    status: str = OK
    tokens: int | None = None


def decode_outcome(value: bytes | None) -> Outcome:
    """Decode an outcome from a message's value.

    Raises
    ------
    RejectedMessage
        Stage "decode", with the first invalid field.

    Examples
    --------
    >>> decode_outcome(b'{"id": "a", "model": "gpt-4", "cost": 0.01, "partition": 0, "offset": 7}').cost
    0.01
    """
    fields = decode_object(value)
    model = fields.get("model")
    if type(model) is not str or not model:
        raise RejectedMessage(RejectionReason.NO_MODEL, "model", shown=shown_value(fields, "model"))
    cost = number_field(fields, "cost", MAX_OUTCOME_USD)
    if cost is None:
        raise RejectedMessage(RejectionReason.NO_COST, "cost")
    quality = number_field(fields, "quality", 1.0)
    position = []
    for name in ("partition", "offset"):
        number = fields.get(name)
        if type(number) is not int or not 0 <= number < 2**63:
            raise RejectedMessage(RejectionReason.INVALID_POSITION, name, shown=shown_value(fields, name))
        position.append(number)
    attempt = fields.get("attempt", 1)
    if type(attempt) is not int or not 1 <= attempt <= MAX_ATTEMPT:
        raise RejectedMessage(
            RejectionReason.INVALID_POSITION, "attempt", shown=shown_value(fields, "attempt")
        )
    status = fields.get("status", OK)
    if status not in OUTCOME_STATUSES:
        raise RejectedMessage(
            RejectionReason.INVALID_STATUS,
            "status",
            shown=shown_value(fields, "status"),
            known=", ".join(OUTCOME_STATUSES),
        )
    partition, offset = position
    tokens = _tokens(fields)
    return Outcome(text_id(fields), model, cost, quality, partition, offset, attempt, status, tokens)


def encode_outcome(outcome: Outcome) -> bytes:
    """Encode an outcome as a message's value."""
    fields = {
        "id": outcome.id,
        "model": outcome.model,
        "cost": outcome.cost,
        "partition": outcome.partition,
        "offset": outcome.offset,
        "attempt": outcome.attempt,
    }
    if outcome.quality is not None:
        fields["quality"] = outcome.quality
    if outcome.status != OK:
        fields["status"] = outcome.status
    if outcome.tokens is not None:
        fields["tokens"] = outcome.tokens
    return orjson.dumps(fields)


def _tokens(fields: dict[str, Any]) -> int | None:
    tokens = fields.get("tokens")
    if tokens is None or (type(tokens) is int and 0 <= tokens <= MAX_OUTCOME_TOKENS):
        return tokens
    raise RejectedMessage(
        RejectionReason.NUMBER_OUT_OF_RANGE,
        "tokens",
        shown=shown_value(fields, "tokens"),
        limit=MAX_OUTCOME_TOKENS,
    )
