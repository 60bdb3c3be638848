"""Errors of queries without an answer."""

from openai.types.chat import ChatCompletion

from producers.gateway.results import failed, read_result, rejection_error, unserved
from streams.config.topic_names import Topics
from streams.messages.unserved import UnservedReason
from tests.producers.gateway.made_messages import MadeMessage

TOPICS = Topics.with_prefix("eu.")


def test_answer_has_the_id_of_the_query_and_the_llm_of_the_catalogue():
    value = b'{"id":"q","model":"gpt-4","answer":"Yes.","finish_reason":"stop","cost":0.5,"usage":null}'
    answer = read_result(MadeMessage(TOPICS.answers, b"q", value), TOPICS)  # type: ignore[arg-type]

    read = ChatCompletion.model_validate(answer.body)
    assert (read.id, read.model, read.choices[0].message.content) == ("q", "gpt-4", "Yes.")
    assert answer.headers == {"x-port-model": "gpt-4", "x-port-cost-usd": "0.5"}


def test_unserved_query_names_reason_and_budgets():
    routing = {"period": 3, "plan": 7, "partition": 0, "offset": 1, "exhausted": ["total", "openai"]}
    poor = unserved({"reason": "budget_exhausted", "routing": routing})
    assert (poor.status, poor.code) == (402, "insufficient_quota")
    assert "total, openai" in poor.message
    assert poor.body["error"]["reason"] == "budget_exhausted"
    assert poor.body["error"]["budget"]["exhausted"] == ["total", "openai"]
    assert poor.headers["x-should-retry"] == "false"
    statuses = {reason: unserved({"reason": str(reason)}).status for reason in UnservedReason}
    assert list(statuses.values()) == [429, 402, 400, 504, 502]
    assert unserved({"reason": "of an older router"}).status == 429


def test_failed_query_has_the_error_of_the_endpoint():
    body = {
        "error": {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "c"}
    }
    error = failed({"model": "m", "error": {"code": "refused", "message": "r", "status": 400, "body": body}})
    assert (error.status, error.message, error.param, error.code) == (400, "too long", "messages", "c")
    hidden = failed({"error": {"code": "refused", "message": "no account", "status": 401, "body": None}})
    assert hidden.status == 502
    own = failed({"error": {"code": "answer_too_large", "message": "large"}})
    assert (own.status, own.code) == (502, "answer_too_large")
    assert failed({"error": {"code": "expired", "message": "late"}}).status == 504


def test_dead_letter_is_the_fault_of_its_sender_or_of_the_router():
    sender = rejection_error({"stage": "reserve", "exception.message": "tools: leave it out"})
    assert (sender.status, sender.param) == (400, "tools")
    assert rejection_error({"stage": "embed", "exception.message": "prompt: failed"}).status == 500
