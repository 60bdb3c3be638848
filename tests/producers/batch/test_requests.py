"""Requests of batch files, as queries."""

from pathlib import Path

import orjson
import pytest

from producers.batch.__main__ import main
from producers.batch.requests import BadRequests, validate_file
from streams.messages.query import decode_query
from tests.producers.batch.batch_files import request, write_requests


def test_requests_text_and_limits_become_a_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = {
        "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "I do"}],
        "max_completion_tokens": 9,
        "max_tokens": 12,
        "temperature": 0,
        "model": "m",
    }
    file = write_requests(tmp_path / "requests.jsonl", [{**request("a", ""), "body": body}])
    batch = validate_file(file)

    (read,) = batch.requests()
    query = orjson.loads(read.value)

    assert query["prompt"] == "look\n\nI do" == decode_query(read.value, None).prompt
    assert query["messages"] == body["messages"]
    assert query["max_tokens"] == 9
    assert query["parameters"] == {"max_completion_tokens": 9, "temperature": 0}
    assert query["id"] == f"{batch.name}-a" == batch.query_id("a")
    assert query["metadata"] == {"batch": batch.name, "custom_id": "a"}
    assert batch.name == validate_file(file).name != validate_file(file, "again").name
    assert main([str(file), "--answers", "unused", "--check"]) == 0
    assert "1 requests, all valid" in capsys.readouterr().out


def test_requests_null_field_counts_as_missing(tmp_path: Path):
    line = request("a", "x", n=None, stream=None, max_tokens=None, temperature=None, top_p=0.5, stop=None)
    line |= {"method": None, "url": None}
    line["body"]["messages"][0] |= {"name": None, "tool_calls": None}

    (read,) = validate_file(write_requests(tmp_path / "requests.jsonl", [line])).requests()

    query = orjson.loads(read.value)
    assert query["parameters"] == {"top_p": 0.5}
    assert "max_tokens" not in query
    assert query["messages"] == line["body"]["messages"]


NUMBERS = '"seed":123456789012345678901234567890,"top_p":0.10,"logit_bias":{"7":1.0000000000000000001}'


def test_requests_long_numbers_keep_their_digits(tmp_path: Path):
    line = orjson.dumps(request("a", "x"))[:-2] + b"," + NUMBERS.encode() + b"}}\n"

    (read,) = validate_file(write_requests(tmp_path / "requests.jsonl", [line])).requests()

    assert f'"parameters":{{{NUMBERS}}}'.encode() in read.value


def test_validate_file_request_nested_too_deeply_is_reported_with_its_line(tmp_path: Path):
    line = orjson.dumps(request("a", "x"))
    assert line.endswith(b"}}")
    file = tmp_path / "requests.jsonl"
    file.write_bytes(line[:-2] + b',"response_format":' + b"[" * 300 + b"]" * 300 + b"}}")
    with pytest.raises(BadRequests, match=r"line 1: body: cannot be encoded as JSON .*reduce its nesting"):
        validate_file(file)
