"""Results of queries as their topics have them: answers, unserved queries and dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from producers.chat_api import response_body
from producers.gateway.api_errors import INVALID_REQUEST, NO_RETRY, SERVER_ERROR, ApiError
from streams.config.topic_names import Topics
from streams.messages import exact_json
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.headers import headers_of
from streams.messages.routing_info import RoutingInfo
from streams.messages.unserved import UnservedReason, reason_text

QUOTA = "insufficient_quota"
UNSERVED: dict[str, tuple[int, str, str, str]] = {
    UnservedReason.BUDGET_EXHAUSTED: (402, QUOTA, QUOTA, "Wait for the next period, or raise the budgets."),
    UnservedReason.NOT_WORTH_IT: (429, QUOTA, "not_worth_it", "Raise its weight, or send it later."),
    UnservedReason.NO_ELIGIBLE_LLM: (
        400,
        INVALID_REQUEST,
        "no_eligible_llm",
        "Change model, max_cost_usd, min_quality, or what the request needs.",
    ),
    UnservedReason.ALL_FAILED: (502, SERVER_ERROR, "all_failed", "Send it later."),
    UnservedReason.EXPIRED: (504, SERVER_ERROR, "timeout", "Allow more time."),
}
"""Status, type and code of the error, and advice, for each reason."""

SENDER_STAGES = frozenset({"decode", "reserve"})
"""Stages of dead letters that the sender of the query can correct."""


@dataclass(frozen=True)
class Completion:
    """An answered query.

    Parameters
    ----------
    model : str
        The LLM that answered.
    cost : float or None
        USD.
    body : dict
        Response of the chat completions API.
    """

    model: str
    cost: float | None
    body: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response: the LLM and the cost."""
        cost = {} if self.cost is None else {"x-port-cost-usd": f"{self.cost:.9g}"}
        return {"x-port-model": self.model.encode("ascii", "backslashreplace").decode(), **cost}


def read_result(message: Message, topics: Topics) -> Completion:
    """Return the answer that a message has.

    Parameters
    ----------
    message : Message
        Of the topic of answers, of unserved queries or of dead letters.
    topics : Topics

    Raises
    ------
    ApiError
        The query was not answered.
    """
    if message.topic() == topics.dlq:
        raise rejection_error(split_dead_letter_headers(headers_of(message))[1])
    fields = exact_json.decode(message.value() or b"{}")
    if message.topic() == topics.unserved:
        raise unserved(fields)
    if fields.get("error") is not None:
        raise failed(fields)
    key = message.key()
    identity = key.decode() if key else str(fields.get("id"))
    created = message.timestamp()[1] // 1000
    body = response_body(fields, created) | {"id": identity, "model": fields.get("model")}
    cost = fields.get("cost")
    return Completion(str(fields.get("model")), float(cost) if cost is not None else None, body)


def unserved(fields: Mapping[str, Any]) -> ApiError:
    """Return the error of an unserved query, with the reason and the budgets.

    402 if budgets cannot pay, which lasts until they are renewed. 429 if the query was not worth the prices,
    which change with the traffic.
    """
    reason = str(fields.get("reason"))
    routing = RoutingInfo.find(fields)
    budget: dict[str, Any] = {}
    if routing is not None:
        budget = {"period": routing.period, "plan": routing.plan}
        budget |= {"exhausted": routing.exhausted or [], "excluded": routing.excluded or {}}
    status, kind, code, advice = UNSERVED.get(reason, UNSERVED[UnservedReason.NOT_WORTH_IT])
    names = f" ({', '.join(routing.exhausted)})" if routing is not None and routing.exhausted else ""
    text = f"The query was not served: {reason_text(reason)}{names}. {advice}"
    return ApiError(
        status, text, kind, code=code, headers=NO_RETRY, details={"reason": reason, "budget": budget}
    )


def failed(fields: Mapping[str, Any]) -> ApiError:
    """Return the error of a query that its LLM did not answer; the endpoint's own error if there is one."""
    failure = fields["error"]
    failure_fields = failure if isinstance(failure, dict) else {"code": "failed", "message": failure}
    message, code = str(failure_fields.get("message")), str(failure_fields.get("code"))
    details = {"model": fields.get("model")}
    if code == "expired":  # the fleet found that the deadline had passed
        return ApiError(504, message, SERVER_ERROR, code="timeout", headers=NO_RETRY, details=details)
    status = failure_fields.get("status")
    if type(status) is not int or not 400 <= status < 600:
        return ApiError(502, message, SERVER_ERROR, code=code, headers=NO_RETRY, details=details)
    body = failure_fields.get("body")
    inner = body.get("error") if isinstance(body, dict) else None
    inner = inner if isinstance(inner, dict) else {}
    return ApiError(
        # a fault of the operator's account with the endpoint is not the caller's
        502 if status in (401, 403, 407) else status,
        str(inner.get("message") or message),
        str(inner.get("type") or (INVALID_REQUEST if status < 500 else SERVER_ERROR)),
        code=str(inner.get("code") or code),
        param=inner["param"] if isinstance(inner.get("param"), str) else None,
        headers=NO_RETRY,
        details=details,
    )


def rejection_error(errors: Mapping[str, str]) -> ApiError:
    """Return the error of a dead letter, from its headers about the rejection."""
    text, stage = errors.get("exception.message", "it was rejected"), errors.get("stage", "")
    if stage in SENDER_STAGES:
        return ApiError(400, text, code="rejected", param=text.partition(": ")[0], headers=NO_RETRY)
    return ApiError(500, text, SERVER_ERROR, code="rejected", headers=NO_RETRY)
