"""Responses in the forms of twelve providers, made by hand from their documentation."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from producers.fleet.endpoint_errors import read_error
from producers.fleet.failures import EndpointAccessError, RequestFailure, refusal
from producers.fleet.messages import Tokens
from producers.fleet.parameters import EndpointParameters
from producers.fleet.response import Answer, decode_response, read_answer, read_usage
from streams.messages import exact_json

PROVIDERS = sorted(Path(__file__).with_name("providers").glob("*.json"))


def cases(kind: str) -> list[Any]:
    """Those of all providers that expect an answer, a failure, or that the worker stops."""
    return [
        pytest.param(case, id=f"{path.stem}: {case['case']}")
        for path in PROVIDERS
        for case in json.loads(path.read_text())
        if kind in case["expect"]
    ]


def read(case: dict[str, Any]) -> Answer:
    """As the caller reads it."""
    content = case["text"].encode() if "text" in case else json.dumps(case["body"]).encode()
    headers = httpx2.Headers(case.get("headers", {}))
    if case["status"] == 200:
        return read_answer(content, headers, known=False)
    raise refusal(read_error(case["status"], headers, decode_response(content), content), known=False)


def test_providers_common_providers_have_samples():
    assert len(PROVIDERS) == 12


@pytest.mark.parametrize("case", cases("answer"))
def test_read_answer_complete_answers_are_returned(case: dict[str, Any]):
    expected, answer = case["expect"], read(case)

    choice = answer.body["choices"][0]
    assert (choice.get("message") or {}).get("content") == expected["answer"]
    assert choice["finish_reason"] == expected["finish_reason"]
    assert answer.tokens == Tokens(*expected["tokens"])


@pytest.mark.parametrize("case", cases("failure"))
def test_read_answer_failures_are_classified(case: dict[str, Any]):
    expected = case["expect"]
    with pytest.raises(RequestFailure) as raised:
        read(case)

    failure = raised.value
    assert (failure.code, failure.retryable) == (expected["failure"], expected["again"])
    assert expected["text"] in failure.message
    for name in ("limited", "passing", "shut_out", "own", "unsure"):
        assert getattr(failure, name) is expected.get(name, False), name
    assert failure.pause == expected.get("pause")
    assert failure.tokens == Tokens(*expected.get("tokens", ()))
    if case["status"] != 200 or "status" in expected:
        assert failure.to_dict()["status"] == expected.get("status", case["status"])
    if "limit_refused" in expected:
        assert failure.error is not None
        name = "max_tokens" if "max_tokens" in json.dumps(case["body"]) else "max_completion_tokens"
        assert EndpointParameters().learn_refusal({name: 5}, failure.error) is expected["limit_refused"]


@pytest.mark.parametrize("case", cases("stops"))
def test_read_answer_access_errors_are_raised(case: dict[str, Any]):
    with pytest.raises(EndpointAccessError) as raised:
        read(case)
    assert case["expect"]["stops"] in str(raised.value)
    assert case["expect"]["fix"] in str(raised.value)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\ude00 \\ud83d\\ude00 \\ud83d x"', "\ufffd \U0001f600 \ufffd x"),
        (b'"\\\\ud83d"', "\\ud83d"),
        (b'"\\\\\\ud83d"', "\\\ufffd"),
        (b'{"\\ud83d":NaN,"b":[-Infinity,Infinity,-inf,nan]}', {"\ufffd": None, "b": [None] * 4}),
        (b'["NaN, \\ud83d -Infinity", NaN]', ["NaN, \ufffd -Infinity", None]),
        (b'"\xff\xfe\xf0\x9f"', "\ufffd\ufffd\ufffd"),
        (b'"a\nb\tc"', "a\nb\tc"),
        (b"\xef\xbb\xbf[1]", [1]),
        ('\ufeff{"a": 1}'.encode("utf-16-le"), {"a": 1}),
    ],
)
def test_decode_response_invalid_json_is_repaired(written: bytes, read_as: object):
    assert decode_response(written) == read_as


def test_decode_response_repaired_json_keeps_digits():
    content = b"[123456789012345678901234567890,0.12345678901234567890,1.50,NaN]"
    assert exact_json.encode(decode_response(content)) == content.replace(b"NaN", b"null")


@pytest.mark.parametrize("content", [b"", b"<html>", b"{", b'{"a":}', b"[" * 100_000, b'data: {"a":1}'])
def test_read_answer_not_json_is_a_failure(content: bytes):
    with pytest.raises(RequestFailure, match="is not JSON") as raised:
        read_answer(content, {}, known=True)
    assert (raised.value.retryable, raised.value.unsure) == (True, True)


def test_read_answer_unreadable_with_usage_is_not_retried():
    usage = b'{"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 35}'
    content = b'{"choices": [oops], "usage": %b}' % usage
    with pytest.raises(RequestFailure) as raised:
        read_answer(content, {}, known=True)
    assert (raised.value.retryable, raised.value.tokens, raised.value.unsure) == (
        False,
        Tokens(10, 25),
        False,
    )


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 20}, Tokens(10, 20)),
        ({"prompt_tokens": 10.0, "completion_tokens": 20.0, "total_tokens": 30.0}, Tokens(10, 20)),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 5}, Tokens(10, 20)),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": None}, Tokens(10, 20)),
        ({"completion_tokens": 20, "total_tokens": 30}, Tokens(10, 20)),
        ({"input_tokens": 10, "output_tokens": 20}, Tokens(10, 20)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Tokens(10, 20, 8),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 20, "prompt_cache_hit_tokens": 6}, Tokens(10, 20, 6)),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 90}},
            Tokens(10, 2, 10),
        ),
        ({"prompt_tokens": 10, "completion_tokens": -20, "total_tokens": -10}, None),
        ({"prompt_tokens": 10, "completion_tokens": True}, None),
        ({"prompt_tokens": "10", "completion_tokens": "20"}, None),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0}, None),
        ({}, None),
        (None, None),
        ([1], None),
    ],
)
def test_read_usage_returns_the_tokens_to_pay(usage: object, tokens: Tokens | None):
    assert read_usage({"usage": usage}) == tokens


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": None}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": ""}]},
        {"choices": [{"message": "x", "finish_reason": "stop"}]},
        {"choices": [{"text": "x"}]},
        {},
        [],
        "text",
        None,
        7,
    ],
)
def test_read_answer_incomplete_answers_are_failures(body: object):
    with pytest.raises(RequestFailure) as raised:
        read_answer(json.dumps(body).encode(), {}, known=True)
    assert (raised.value.code, raised.value.retryable, raised.value.unsure) == ("half_answer", True, True)


@pytest.mark.parametrize("choice", [{}, {"finish_reason": None}, {"finish_reason": ""}])
@pytest.mark.parametrize("message", [{"content": "4"}, {"tool_calls": [{"function": {"name": "f"}}]}])
def test_a_text_with_usage_is_complete_without_a_finish_reason(choice: dict, message: dict):
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    body = {"choices": [{"message": message, **choice}], "usage": usage}
    answer = read_answer(json.dumps(body).encode(), {}, known=True)
    assert (answer.body, answer.tokens) == (body, Tokens(3, 2))


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}, {"content": "x", "usage": None}])
def test_half_answers_with_tokens_are_paid_for(message: dict):
    usage = None if "usage" in message else {"prompt_tokens": 3, "completion_tokens": 2}
    body = {"choices": [{"message": message}], "usage": usage}
    with pytest.raises(RequestFailure) as raised:
        read_answer(json.dumps(body).encode(), {}, known=True)
    assert raised.value.code == "half_answer"
    assert raised.value.unsure is (usage is None)


@pytest.mark.parametrize("error", ["it broke", {"code": 502, "message": "it broke"}])
def test_read_answer_error_beside_an_answer_is_a_failure(error: object):
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "error": error}
    with pytest.raises(RequestFailure, match="it broke") as raised:
        read_answer(json.dumps(body).encode(), {}, known=True)
    assert (raised.value.retryable, raised.value.unsure) == (True, True)


@pytest.mark.parametrize("error", [None, "", {}, False, [], {"code": None, "message": ""}])
def test_read_answer_empty_error_is_ignored(error: object):
    choice = {"message": {"content": "x"}, "finish_reason": "stop", "error": error}
    body = {"choices": [choice], "error": error}
    assert read_answer(json.dumps(body).encode(), {}, known=True).body == body


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"n": 1e999}', {"n": None}),
        ('{"n": -1.5E+400, "t": "1e999"}', {"n": None, "t": "1e999"}),
        ('{"n": 1e300, "m": NaN}', {"n": 1e300, "m": None}),
        ('{"n": 1}\n\0\0', {"n": 1}),
    ],
)
def test_numbers_beyond_a_float_and_zero_bytes_do_not_lose_an_answer(text: str, value: object):
    assert decode_response(text.encode()) == value
