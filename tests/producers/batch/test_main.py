"""`python -m producers.batch` on Kafka: each request is sent and answered once."""

import gzip
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException

from producers.batch import sender
from producers.batch.__main__ import main
from producers.batch.requests import BadRequests, validate_file
from streams.config.settings import Settings
from streams.kafka.transactions import FencedProducer
from tests.conftest import ROOT, TopicReader
from tests.producers.batch.batch_files import read_lines, request, sent_ids, with_messages, write_requests
from tests.producers.conftest import RouterStarter
from tests.producers.fleet.chat_server import COMPLETION_TOKENS, PLAIN_PROMPT, PROMPT_TOKENS, ChatServer
from tests.producers.fleet.fleet_process import fleet, wait_until


def test_main_file_is_answered_completely(
    tmp_path: Path,
    start_router: RouterStarter,
    server: ChatServer,
    read_topics: TopicReader,
    capsys: pytest.CaptureFixture[str],
):
    start_router()
    requests = [request(f"r/{i} é", f"prompt {i}", max_tokens=5) for i in range(18)]
    requests += [request("refused", "refuse me")]
    # three, for two of them may be unserved
    requests += [request(f"failing {i}", f"fails {i}", temperature=0.5) for i in range(3)]
    for i in range(3):
        server.faults[f"fails {i}"].append("400")
    file, answers = write_requests(tmp_path / "requests.jsonl", requests), tmp_path / "out" / "answers.jsonl"

    with fleet(Settings(), server):
        assert main([str(file), "--answers", str(answers)]) == 0
    progress = capsys.readouterr()
    assert main([str(file), "--answers", str(answers), "--quiet"]) == 0

    lines = read_lines(answers)
    assert Counter(line["custom_id"] for line in lines) == Counter(r["custom_id"] for r in requests)
    assert all(set(line) == {"id", "custom_id", "response", "error"} for line in lines)
    assert all((line["error"] is None) == (line["response"] is not None) for line in lines)
    codes = Counter(
        line["error"]["code"] if line["error"] else line["response"]["status_code"] for line in lines
    )
    assert codes["refused"] == 1
    assert 1 <= codes["unserved"] <= 2
    assert codes[400] >= 1
    assert codes[200] >= 16
    errors = {line["error"]["code"]: line["error"]["message"] for line in lines if line["error"]}
    assert errors == {
        "refused": "prompt: asks for it",
        "unserved": "no LLM is worth its price",
    }
    refused = next(line for line in lines if line["response"] and line["response"]["status_code"] == 400)
    assert refused["response"]["body"] == {
        "error": {"message": "refused with 400", "type": "test", "code": None}
    }
    fine = next(line for line in lines if line["response"] and line["response"]["status_code"] == 200)
    number = fine["custom_id"].split("/")[1].split(" ")[0]
    assert fine["response"]["status_code"] == 200
    body = fine["response"]["body"]
    assert body["choices"][0]["message"]["content"] == f"PROMPT {number}"
    assert body["usage"] == {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    }
    assert set(sent_ids(read_topics).values()) == {1}
    # the fleet may send plain requests to find out who is at fault
    assert {times for prompt, times in server.asked.items() if prompt != PLAIN_PROMPT} == {1}
    request_of = {sent["messages"][-1]["content"]: sent for sent in server.requests}
    assert request_of[f"prompt {number}"] == {
        "model": "served-as",
        "max_tokens": 5,
        "messages": request("", f"prompt {number}")["body"]["messages"],
    }
    assert {sent["temperature"] for prompt, sent in request_of.items() if prompt.startswith("fails")} == {0.5}
    assert "22 of 22 requests" in progress.err
    assert "all 22 requests have their line already" in capsys.readouterr().out
    assert not (tmp_path / "out" / "answers.jsonl.state").exists()


def test_main_killed_resumes_without_duplicates(
    tmp_path: Path, start_router: RouterStarter, server: ChatServer, read_topics: TopicReader
):
    start_router()
    requests = [request(f"r{i}", f"p{i}") for i in range(16)]
    file, answers = write_requests(tmp_path / "requests.jsonl", requests), tmp_path / "answers.jsonl"
    server.held.update(f"p{i}" for i in range(0, 16, 2))
    command = [sys.executable, "-m", "producers.batch", str(file), "--answers", str(answers), "--quiet"]

    with fleet(Settings(), server, request_seconds=60):
        with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ)) as running:
            wait_until(
                lambda: answers.exists() and len(answers.read_bytes().splitlines()) >= 7, "half are answered"
            )
            running.kill()
        # a line that was being written
        with open(answers, "ab") as torn:
            torn.write(b'{"id":"batch-')
        server.release()
        assert main([str(file), "--answers", str(answers), "--quiet"]) == 0
        # the answers are on the broker: a lost file is written again
        lines = read_lines(answers)
        answers.unlink()
        assert main([str(file), "--answers", str(answers), "--quiet"]) == 0

    assert Counter(line["custom_id"] for line in lines) == Counter(f"r{i}" for i in range(16))
    assert sorted(map(orjson.dumps, read_lines(answers))) == sorted(map(orjson.dumps, lines))
    assert set(sent_ids(read_topics).values()) == {1}
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize("fate", ["went through", "did not"])
def test_main_crash_around_a_commit_sends_each_request_once(
    fate: str,
    tmp_path: Path,
    start_router: RouterStarter,
    read_topics: TopicReader,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    start_router()
    file = write_requests(tmp_path / "requests.jsonl", [request(f"r{i}", f"p{i}") for i in range(20)])
    arguments = [str(file), "--answers", str(tmp_path / "answers.jsonl"), "--quiet", "--no-wait"]
    monkeypatch.setattr(sender, "CHUNK_REQUESTS", 6)
    commit, commits = FencedProducer.commit, []

    def crash(self: FencedProducer) -> None:
        commits.append(None)
        if len(commits) != 2 or fate == "went through":
            commit(self)
        if len(commits) == 2:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(FencedProducer, "commit", crash)

    assert main(arguments) == 1
    assert "run the same command to continue" in capsys.readouterr().err
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert main([*arguments, "--run", "once more"]) == 0

    counts = Counter(identity.split("-")[-1] for identity in sent_ids(read_topics).elements())
    assert counts == Counter({f"r{i}": 2 for i in range(20)})
    assert set(sent_ids(read_topics).values()) == {1}


def test_main_invalid_lines_are_reported_with_field_and_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    good = request("a", "fine")
    bad = [
        (b"{not json\n", "line: is not JSON"),
        (b"[1]\n", "line: is a list; write an object"),
        (good | {"custom_id": 7}, "custom_id: 7 must be a string"),
        (good, "custom_id: 'a' is also that of line 1; make it unique"),
        (good | {"url": "/v1/embeddings"}, "url: '/v1/embeddings' must be '/v1/chat/completions'"),
        (good | {"method": "GET"}, "method: 'GET' must be 'POST'"),
        (good | {"body": None}, "body: is missing or null; must be an object with messages"),
        (request("e", "x", max_tokens=0), "body.max_tokens: 0 must be a whole number from 1"),
        (request("f", "x", stream=True), "body.stream: streaming is not supported"),
        (request("g", "x", n=2), "body.n: 2 must be 1"),
        (with_messages(), "body.messages: [] must be a list that is not empty"),
        (with_messages("x"), "body.messages[0]: must be an object with role"),
        (
            with_messages({"role": "user", "content": 1}),
            "body.messages[0].content: 1 must be a text or a list",
        ),
        (with_messages({"role": "user", "content": None}), "body.messages: have no text"),
        (request("l", "x" * (2**20 + 1)), "body.prompt: has 1048587 bytes; at most 1048576"),
    ]
    file = write_requests(
        tmp_path / "requests.jsonl", [good, *(line for line, _ in bad), b"\n", request("z", "fine")]
    )

    assert main([str(file), "--answers", str(tmp_path / "answers.jsonl")]) == 1
    errors = capsys.readouterr().err.splitlines()

    assert "nothing was sent" in errors[0]
    for number, ((_, text), line) in enumerate(zip(bad, errors[1:], strict=True), 2):
        assert line.startswith(f"line {number}: {text}")
    assert not (tmp_path / "answers.jsonl").exists()
    for empty in ([], [b"\n\n"]):
        with pytest.raises(BadRequests, match="has no requests"):
            validate_file(write_requests(tmp_path / "empty.jsonl", empty))
    assert main([str(tmp_path / "nowhere.jsonl"), "--answers", "x"]) == 1


@pytest.mark.parametrize("form", ["pipe", "standard input", "gzip", "utf-16", "byte order mark"])
def test_main_file_in_any_form_is_the_same_batch(
    form: str, tmp_path: Path, start_router: RouterStarter, read_topics: TopicReader
):
    start_router()
    plain = write_requests(tmp_path / "requests.jsonl", [request(f"r{i}", f"prompt {i}") for i in range(4)])
    command = [sys.executable, "-m", "producers.batch", "--no-wait", "--answers", str(tmp_path / "answers")]
    content, name = plain.read_bytes(), str(tmp_path / "other.jsonl")
    if form == "pipe":
        name = "/dev/stdin"
    elif form == "standard input":
        name = "-"
    elif form == "gzip":
        Path(name).write_bytes(gzip.compress(content))
    else:
        Path(name).write_text(content.decode(), encoding="utf-16" if form == "utf-16" else "utf-8-sig")

    done = subprocess.run(
        [*command, name], cwd=ROOT, input=content, capture_output=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    batch = validate_file(plain)
    assert sent_ids(read_topics) == {batch.query_id(f"r{i}"): 1 for i in range(4)}


def test_main_answers_not_a_regular_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write_requests(tmp_path / "requests.jsonl", [request("a", "x")])
    os.mkfifo(tmp_path / "pipe")

    for name in ("-", str(tmp_path / "pipe"), str(tmp_path)):
        assert main([str(file), "--answers", name]) == 1
        assert f"--answers: {name} is not a regular file" in capsys.readouterr().err


def test_main_empty_pipe_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    assert main(["-", "--answers", str(tmp_path / "answers"), "--no-wait"]) == 1
    assert "has no requests" in capsys.readouterr().err


def test_main_foreign_answers_file_is_left_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    file = write_requests(tmp_path / "requests.jsonl", [request("a", "x")])
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"id": "batch-other-a", "custom_id": "a"}\n')

    assert main([str(file), "--answers", str(answers)]) == 1
    assert "line 1 of" in capsys.readouterr().err
    assert answers.read_text() == '{"id": "batch-other-a", "custom_id": "a"}\n'

    for foreign in (b"notes of mine", b'{"id": "batch-other-a"', file.read_bytes().rstrip(), b"a\nb"):
        answers.write_bytes(foreign)
        assert main([str(file), "--answers", str(answers)]) == 1
        assert "line 1 of" in capsys.readouterr().err
        assert answers.read_bytes() == foreign

    batch = validate_file(file)
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(ValueError, match="was changed while it was sent"):
        list(batch.requests())


@pytest.mark.parametrize("way", ["itself", "another spelling", "symlink", "hard link", "state", "part"])
def test_main_answers_over_the_requests_is_reported(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    names = {"state": "answers.state", "part": "answers.state.part"}
    file = tmp_path / names.get(way, "requests.jsonl")
    line = orjson.dumps(request("a", "x"))
    file.write_bytes(line)  # without an end of line, as editors leave it
    answers = tmp_path / "answers"
    if way == "itself":
        answers = file
    elif way == "another spelling":
        (tmp_path / "folder").mkdir()
        answers = tmp_path / "folder" / ".." / file.name
    elif way == "symlink":
        answers.symlink_to(file)
    elif way == "hard link":
        os.link(file, answers)

    assert main([str(file), "--answers", str(answers)]) == 1
    assert "is the file of the requests; name another file" in capsys.readouterr().err
    assert file.read_bytes() == line
