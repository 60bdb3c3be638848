"""A fleet worker on Kafka: requests, answers, costs and outcomes of routed queries."""

import orjson
import pytest

from streams.config.settings import Settings
from streams.messages.dead_letter import split_dead_letter_headers
from tests.conftest import TopicReader
from tests.producers.fleet.chat_server import (
    COMPLETION_TOKENS,
    PLAIN_PROMPT,
    PROMPT_TOKENS,
    TRACEPARENT,
    ChatServer,
    completion,
)
from tests.producers.fleet.fleet_process import fleet
from tests.producers.fleet.routed_topic import ANSWER_USD, RoutedTopic, assert_settled_once


def test_fleet_mixed_queries_each_get_an_answer_and_an_outcome(
    settings: Settings, stream: RoutedTopic, server: ChatServer, read_topics: TopicReader
):
    server.faults["twice"].extend(["500", "429"])
    server.faults["paid"].extend(["unfinished"] * 3)
    server.faults["never"].extend(["400"])
    server.faults["uncounted"].append("uncounted")
    server.faults["slow"].append("hang")
    prompts = ["plain", "twice", "paid", "never", "uncounted", "slow"]
    stream.put(*prompts, max_tokens=9)
    chat = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    parameters = {"temperature": 0.5, "model": "mine", "max_completion_tokens": 99}
    stream.put("chat", messages=chat, max_tokens=8, parameters=parameters)
    stream.put("bad", messages="none")
    stream.put_raw(b"not JSON", 0, [])
    stream.put_raw(None, 1, [])
    stream.put("last")

    with fleet(settings, server, concurrency=4):
        stream.wait_for_answers(9)

    assert_settled_once(stream, [*prompts, "chat", "bad", "last"])
    answers = {answer["id"].removeprefix("q-"): answer for answer in stream.answers()}
    costs = {outcome.id.removeprefix("q-"): outcome.cost for _, outcome in stream.outcomes()}
    assert costs == {name: answer["cost"] for name, answer in answers.items()}
    assert costs == {
        "plain": ANSWER_USD,
        "twice": ANSWER_USD,
        "paid": 3 * ANSWER_USD,
        "never": 0,
        "uncounted": 0.5,
        "slow": ANSWER_USD,
        "chat": ANSWER_USD,
        "bad": 0,
        "last": ANSWER_USD,
    }
    plain = answers["plain"]
    assert (plain["model"], plain["answer"], plain["finish_reason"]) == ("vendor/llm", "PLAIN", "stop")
    assert plain["usage"]["prompt_tokens"] == PROMPT_TOKENS
    assert (plain["partition"], plain["offset"], plain["error"]) == (0, 100, None)
    assert "response" not in plain
    assert answers["twice"]["attempts"] == 2
    assert answers["paid"]["error"]["code"] == "half_answer"
    refused = {"code": "http_400", "message": "Error code: 400 - refused with 400", "status": 400}
    assert answers["never"]["error"] == refused
    assert answers["never"]["answer"] is None
    assert answers["bad"]["error"]["code"] == "invalid_request"
    assert answers["chat"]["response"]["choices"][0]["message"]["content"] == "HI"
    request_of = {request["messages"][-1]["content"]: request for request in server.requests}
    assert request_of["plain"] == {
        "model": "served-as",
        "messages": [{"role": "user", "content": "plain"}],
        "max_tokens": 9,
    }
    assert request_of["hi"]["messages"][0] == {"role": "system", "content": "be kind"}
    assert {key: request_of["hi"][key] for key in request_of["hi"] if key != "messages"} == {
        "model": "served-as",
        "temperature": 0.5,
        "max_tokens": 8,
    }
    assert 1 < server.most_at_once <= 4
    assert server.headers[0]["traceparent"] == TRACEPARENT
    first = read_topics([settings.topics.answers])[0]
    assert first.headers() == [("traceparent", TRACEPARENT.encode()), ("own", b"\xff")]
    assert first.key() == orjson.loads(first.value())["id"].encode()
    dead = read_topics([settings.topics.dlq])
    assert {message.value() for message in dead} == {b"not JSON", None}
    for message in dead:
        _, errors = split_dead_letter_headers(message.headers())
        assert (errors["topic"], errors["stage"]) == (settings.topics.llm("vendor-llm"), "fleet")


def test_fleet_bounded_query_spends_at_most_its_reservation(
    settings: Settings, stream: RoutedTopic, server: ChatServer
):
    server.faults["refused"].extend(["500", "429"])
    prompts = ["times out", "is cut off"]
    server.faults["times out"].append("hang")
    server.faults["is cut off"].append("cut")
    stream.put("refused", *prompts, bound=9)
    stream.put("asks for more", bound=9, parameters={"max_completion_tokens": 8, "max_tokens": 100_000})
    stream.put("asks oddly", bound=9, parameters={"max_completion_tokens": -1})
    stream.put("estimated")

    with fleet(settings, server):
        stream.wait_for_answers(6)

    assert_settled_once(stream, ["refused", *prompts, "asks for more", "asks oddly", "estimated"])
    costs = {outcome.id.removeprefix("q-"): outcome.cost for _, outcome in stream.outcomes()}
    # what may have been paid for is not asked for again, and settles at what was reserved
    assert costs == {
        "refused": ANSWER_USD,
        "times out": 0.5,
        "is cut off": 0.5,
        "asks for more": ANSWER_USD,
        "asks oddly": 0,
        "estimated": ANSWER_USD,
    }
    assert [server.asked[prompt] for prompt in ("refused", *prompts, "asks oddly")] == [3, 1, 1, 0]
    limits = {
        request["messages"][-1]["content"]: {name: most for name, most in request.items() if "max" in name}
        for request in server.requests
        if request["messages"][-1]["content"] != PLAIN_PROMPT
    }
    assert limits == {
        "refused": {"max_tokens": 9},
        "times out": {"max_tokens": 9},
        "is cut off": {"max_tokens": 9},
        "asks for more": {"max_tokens": 8},
        "estimated": {},
    }


def test_fleet_answer_too_large_becomes_an_error(settings: Settings, stream: RoutedTopic, server: ChatServer):
    server.faults["huge"].append("large")
    chat = [{"role": "user", "content": "huge"}]
    stream.put("huge", messages=chat)
    stream.put("after")
    with fleet(settings, server, request_seconds=10.0):
        stream.wait_for_answers(2)
    assert_settled_once(stream, ["huge", "after"])
    answers = {answer["id"]: answer for answer in stream.answers()}
    huge = answers["q-huge"]
    assert (huge["error"]["code"], huge["answer"]) == ("answer_too_large", None)
    # it was given, and has to be paid
    assert huge["cost"] == ANSWER_USD
    assert huge["usage"]["completion_tokens"] == COMPLETION_TOKENS
    assert answers["q-after"]["answer"] == "AFTER"


def test_fleet_headers_invalid_in_http_are_not_forwarded(
    settings: Settings, stream: RoutedTopic, server: ChatServer, read_topics: TopicReader
):
    odd = [("traceparent", b"\xff"), ("tracestate", "é".encode())]
    routing = {"model": "vendor/llm", "cost": 0.5, "partition": 0, "offset": 7}
    stream.put_raw(orjson.dumps({"id": "q-odd", "prompt": "odd", "routing": routing}), 0, odd)
    stream.put("next")

    with fleet(settings, server):
        stream.wait_for_answers(2)

    assert {answer["answer"] for answer in stream.answers()} == {"ODD", "NEXT"}
    assert odd in [message.headers() for message in read_topics([settings.topics.answers])]


def test_fleet_long_numbers_keep_their_digits(
    settings: Settings, stream: RoutedTopic, server: ChatServer, read_topics: TopicReader
):
    big, long = b"123456789012345678901234567890", b"0.12345678901234567890"
    query = (
        b'{"id":"q-d","prompt":"d","messages":[{"role":"user","content":"d"}],"parameters":{"seed":%b,"top_p":%b},'
        b'"routing":{"model":"vendor/llm","cost":0.5,"partition":0,"offset":100}}' % (big, long)
    )
    written: list[bytes] = []
    answer = completion("d", "served-as")
    server.record = written.append
    server.respond = lambda body: (200, {}, answer[:-1] + b',"own":[%b,%b]}' % (big, long))
    stream.put_raw(query, 0, [])

    with fleet(settings, server):
        stream.wait_for_answers(1)

    assert written == [
        b'{"seed":%b,"top_p":%b,"model":"served-as","messages":[{"role":"user","content":"d"}]}' % (big, long)
    ]
    value = read_topics([settings.topics.answers])[0].value()
    assert b'"own":[%b,%b]' % (big, long) in value


def body(message: object, finish: str | None, prompt: int, completion: int, **usage: object) -> dict:
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, **usage}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": counted}


@pytest.mark.parametrize("bound", [None, 9])
def test_fleet_unusual_responses_are_paid_once(
    bound: int | None, settings: Settings, stream: RoutedTopic, server: ChatServer
):
    surrogate = orjson.dumps(body({"content": "cut @"}, "stop", 10, 20)).replace(b"@", rb"\ud83d")
    infinite = orjson.dumps(body({"content": "ok"}, "stop", 10, 20))[:-1] + b',"logprob":-Infinity}'
    responses = {
        "reasons": orjson.dumps(body({"content": None, "reasoning": "hm"}, "length", 10, 1000)),
        "filtered": orjson.dumps(body({"role": "assistant"}, "content_filter", 300, 16)),
        "calls": orjson.dumps(body({"function_call": {"name": "f"}}, "function_call", 10, 20)),
        "speaks": orjson.dumps(body({"content": None, "audio": {"data": "AA"}}, "stop", 10, 20)),
        "surrogate": surrogate,
        "infinite": infinite,
        "mark": b"\xef\xbb\xbf" + orjson.dumps(body({"content": "ok"}, "stop", 10, 20)),
        "unreadable": b'{"choices":[oops],"usage":{"prompt_tokens":10,"completion_tokens":20}}',
        "hidden": orjson.dumps(body({"content": "4"}, "stop", 10120, 1499, total_tokens=14428)),
    }
    server.respond = lambda body: (200, {}, responses[body["messages"][-1]["content"]])  # type: ignore[index]
    stream.put("mark", bound=bound)
    stream.put(*[name for name in responses if name != "mark"], bound=bound)

    responses[PLAIN_PROMPT] = orjson.dumps(body({"content": "Yes."}, "stop", 0, 0))
    with fleet(settings, server):
        stream.wait_for_answers(9)

    assert_settled_once(stream, [name for name in responses if name != PLAIN_PROMPT])
    answers = {answer["id"].removeprefix("q-"): answer for answer in stream.answers()}
    costs = {outcome.id.removeprefix("q-"): outcome.cost for _, outcome in stream.outcomes()}
    paid = dict.fromkeys(answers, (2.0 * 10 + 10.0 * 20) / 1e6)
    paid |= {
        "reasons": (20 + 10_000) / 1e6,
        "filtered": (600 + 160) / 1e6,
        "hidden": (2.0 * 10120 + 10.0 * (14428 - 10120)) / 1e6,
    }
    assert costs == pytest.approx(paid)
    assert {name: answer["attempts"] for name, answer in answers.items()} == dict.fromkeys(answers, 1)
    assert [name for name, answer in answers.items() if answer["error"]] == ["unreadable"]
    assert (answers["reasons"]["answer"], answers["reasons"]["finish_reason"]) == (None, "length")
    assert answers["reasons"]["response"]["choices"][0]["message"]["reasoning"] == "hm"
    assert answers["filtered"]["finish_reason"] == "content_filter"
    assert answers["surrogate"]["answer"] == "cut \ufffd"
    assert (answers["infinite"]["answer"], "response" in answers["infinite"]) == ("ok", False)


def test_fleet_error_with_status_200_is_a_failure(
    settings: Settings, stream: RoutedTopic, server: ChatServer
):
    half = {"index": 0, "message": {"content": "partial"}, "finish_reason": "error"}
    usage = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0}
    failures = {
        "broken": {"choices": [half | {"error": {"code": 502, "message": "upstream died"}}], "usage": usage},
        "limited": {"error": {"code": 429, "message": "slow down"}},
        "always": {"choices": [half], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    }
    left = {"broken": 1, "limited": 2, "always": 99}

    def respond(body: dict) -> tuple | None:
        prompt = body["messages"][-1]["content"]
        if not left.get(prompt):
            return None
        left[prompt] -= 1
        return 200, {}, orjson.dumps(failures[prompt])

    server.respond = respond
    stream.put("first", *failures)
    with fleet(settings, server):
        stream.wait_for_answers(4)

    assert_settled_once(stream, ["first", *failures])
    answers = {answer["id"].removeprefix("q-"): answer for answer in stream.answers()}
    assert {name: answers[name]["answer"] for name in failures} == {
        "broken": "BROKEN",
        "limited": "LIMITED",
        "always": None,
    }
    assert {name: answers[name]["attempts"] for name in failures} == {"broken": 2, "limited": 1, "always": 3}
    error = answers["always"]["error"]
    assert (error["code"], error["status"]) == ("finish_reason_error", 503)


def test_fleet_limit_parameter_refused_uses_the_other_name(
    settings: Settings, stream: RoutedTopic, server: ChatServer
):
    refused = {
        "error": {
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        }
    }
    server.respond = lambda body: (400, {}, orjson.dumps(refused)) if "max_tokens" in body else None
    prompts = ["first", "second", "third"]
    stream.put(*prompts, bound=9)

    with fleet(settings, server):
        stream.wait_for_answers(3)
        stream.put("fourth", bound=9, parameters={"max_tokens": 8, "max_completion_tokens": 7})
        stream.wait_for_answers(4)

    assert_settled_once(stream, [*prompts, "fourth"])
    answers = stream.answers()
    assert {(answer["error"], answer["cost"], answer["attempts"]) for answer in answers} == {
        (None, ANSWER_USD, 1)
    }
    assert server.requests[-1] == {
        "model": "served-as",
        "messages": [{"role": "user", "content": "fourth"}],
        "max_completion_tokens": 7,
    }
