"""The file of answers of a batch."""

from pathlib import Path

import orjson
import pytest

from producers.batch.answers import AnswersFile
from producers.batch.requests import validate_file
from streams.messages import exact_json
from tests.producers.batch.batch_files import request, write_requests


def test_answers_long_numbers_keep_their_digits(tmp_path: Path):
    batch = validate_file(write_requests(tmp_path / "requests.jsonl", [request("a", "x")]))
    answers = AnswersFile(tmp_path / "answers.jsonl", batch)
    body = exact_json.decode('{"logprob":-0.10,"created":123456789012345678901234567890}')
    response = {"status_code": 200, "request_id": "x", "body": body}

    answers.write([{"id": batch.query_id("a"), "custom_id": "a", "response": response, "error": None}], {})
    answers.close(complete=True)

    text = (tmp_path / "answers.jsonl").read_text()
    assert '"body":{"logprob":-0.10,"created":123456789012345678901234567890}' in text


@pytest.mark.parametrize("left", [1, 9, 20, -1])
def test_answers_file_incomplete_last_line_is_removed(left: int, tmp_path: Path):
    batch = validate_file(write_requests(tmp_path / "requests.jsonl", [request("a", "x"), request("b", "y")]))
    complete, torn = (
        orjson.dumps({"id": f"{batch.name}-{name}", "custom_id": name, "response": None, "error": {}})
        for name in ("a", "b")
    )
    for padding in (b"", b"\0" * 9):
        answers = tmp_path / "answers.jsonl"
        answers.write_bytes(complete + b"\n" + torn[:left] + padding)
        file = AnswersFile(answers, batch)
        file.close(complete=False)
        assert file.done == {"a"}
        assert answers.read_bytes() == complete + b"\n"
