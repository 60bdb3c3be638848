"""Batch files on a real broker: every request sent and answered once, however often it is interrupted."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from openai.types.chat import ChatCompletion

from producers import batch_sending
from producers.batch import main
from producers.batch_answers import AnswersFile, response_body
from producers.batch_requests import BadRequests, look_through
from streams.settings import Settings
from streams.transactions import FencedProducer
from tests.conftest import ROOT, TopicReader
from tests.producers.chat_server import COMPLETION_TOKENS, PROMPT_TOKENS, ChatServer, chat_server
from tests.producers.conftest import RouterStarter
from tests.producers.fleets import fleet, wait_until


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


@pytest.fixture
def start_router(tmp_path: Path, stream: RouterStarter, monkeypatch: pytest.MonkeyPatch) -> RouterStarter:
    """One LLM; every tenth query is unserved, and those that ask for it are refused."""
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [vendor/llm]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    return stream


def request(custom_id: str, prompt: str, **body: object) -> dict:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": prompt}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "ignored", "messages": messages, **body},
    }


def with_messages(*messages: object) -> dict:
    return request("h", "x") | {"body": {"messages": messages}}


def write(path: Path, requests: list) -> Path:
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else orjson.dumps(line) + b"\n" for line in requests)
    )
    return path


def lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def sent(read_topics: TopicReader) -> Counter:
    return Counter(orjson.loads(m.value())["id"] for m in read_topics([Settings().topics.queries]))


def test_a_file_is_answered(
    tmp_path: Path, start_router: RouterStarter, server: ChatServer, read_topics: TopicReader,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    start_router()
    requests = [request(f"r/{i} é", f"prompt {i}", max_tokens=5) for i in range(18)]
    requests += [request("refused", "refuse me")]
    # three, for two of them may be unserved
    requests += [request(f"failing {i}", f"fails {i}", temperature=0.5) for i in range(3)]
    for i in range(3):
        server.faults[f"fails {i}"].append("400")
    file, answers = write(tmp_path / "requests.jsonl", requests), tmp_path / "out" / "answers.jsonl"

    with fleet(Settings(), server):
        assert main([str(file), "--answers", str(answers)]) == 0
    progress = capsys.readouterr()
    assert main([str(file), "--answers", str(answers), "--quiet"]) == 0

    found = lines(answers)
    assert Counter(line["custom_id"] for line in found) == Counter(r["custom_id"] for r in requests)
    assert all(set(line) == {"id", "custom_id", "response", "error"} for line in found)
    assert all((line["error"] is None) == (line["response"] is not None) for line in found)
    codes = Counter(
        line["error"]["code"] if line["error"] else line["response"]["status_code"] for line in found
    )
    assert codes["refused"] == 1
    assert 1 <= codes["unserved"] <= 2
    assert codes[400] >= 1
    assert codes[200] >= 16
    errors = {line["error"]["code"]: line["error"]["message"] for line in found if line["error"]}
    assert errors == {
        "refused": "prompt: asks for it",
        "unserved": "its turn",
    }
    refused = next(line for line in found if line["response"] and line["response"]["status_code"] == 400)
    assert refused["response"]["body"] == {
        "error": {"message": "refused with 400", "type": "test", "code": None}
    }
    fine = next(line for line in found if line["response"] and line["response"]["status_code"] == 200)
    number = fine["custom_id"].split("/")[1].split(" ")[0]
    assert fine["response"]["status_code"] == 200
    body = fine["response"]["body"]
    assert body["choices"][0]["message"]["content"] == f"PROMPT {number}"
    assert body["usage"] == {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS,
                             "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS}  # fmt: skip
    assert set(sent(read_topics).values()) == {1}
    assert set(server.asked.values()) == {1}
    asked = {told["messages"][-1]["content"]: told for told in server.requests}
    assert asked[f"prompt {number}"] == {
        "model": "served-as",
        "max_tokens": 5,
        "messages": request("", f"prompt {number}")["body"]["messages"],
    }
    assert {told["temperature"] for prompt, told in asked.items() if prompt.startswith("fails")} == {0.5}
    assert "22/22" in progress.err
    assert "all 22 requests have their line already" in capsys.readouterr().out
    assert not (tmp_path / "out" / "answers.jsonl.state").exists()


def test_killed_it_goes_on_and_nothing_is_sent_or_asked_twice(
    tmp_path: Path, start_router: RouterStarter, server: ChatServer, read_topics: TopicReader
):
    start_router()
    requests = [request(f"r{i}", f"p{i}") for i in range(16)]
    file, answers = write(tmp_path / "requests.jsonl", requests), tmp_path / "answers.jsonl"
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
        whole = lines(answers)
        answers.unlink()
        assert main([str(file), "--answers", str(answers), "--quiet"]) == 0

    assert Counter(line["custom_id"] for line in whole) == Counter(f"r{i}" for i in range(16))
    assert sorted(map(orjson.dumps, lines(answers))) == sorted(map(orjson.dumps, whole))
    assert set(sent(read_topics).values()) == {1}
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize("fate", ["went through", "did not"])
def test_a_crash_around_a_commit_neither_loses_nor_doubles(
    fate: str, tmp_path: Path, start_router: RouterStarter, read_topics: TopicReader,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    start_router()
    file = write(tmp_path / "requests.jsonl", [request(f"r{i}", f"p{i}") for i in range(20)])
    arguments = [str(file), "--answers", str(tmp_path / "answers.jsonl"), "--quiet", "--no-wait"]
    monkeypatch.setattr(batch_sending, "CHUNK_REQUESTS", 6)
    commit, commits = FencedProducer.commit, []

    def crash(self: FencedProducer) -> None:
        commits.append(None)
        if len(commits) != 2 or fate == "went through":
            commit(self)
        if len(commits) == 2:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(FencedProducer, "commit", crash)

    assert main(arguments) == 1
    assert "the same command goes on from here" in capsys.readouterr().err
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert main([*arguments, "--run", "once more"]) == 0

    counts = Counter(identity.split("-")[-1] for identity in sent(read_topics).elements())
    assert counts == Counter({f"r{i}": 2 for i in range(20)})
    assert set(sent(read_topics).values()) == {1}


def test_another_run_of_the_same_batch_takes_over(
    tmp_path: Path, start_router: RouterStarter, read_topics: TopicReader, admin: AdminClient
):
    start_router()
    settings = Settings()
    file = write(tmp_path / "requests.jsonl", [request(f"r{i}", f"p{i}") for i in range(6)])
    batch = look_through(file)
    first = batch_sending.Sender(settings, batch, admin)
    second = batch_sending.Sender(settings, batch, admin)

    with pytest.raises(ValueError, match="another run of"):
        first.run()
    second.run()
    first.close()
    second.close()

    assert set(sent(read_topics).values()) == {1}


def test_bad_lines_are_named_with_field_and_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good = request("a", "fine")
    bad = [
        (b"{not json\n", "line: is not JSON"),
        (b"[1]\n", "line: is a list; write an object"),
        (good | {"custom_id": 7}, "custom_id: 7 must be a text"),
        (good, "custom_id: 'a' is that of line 1 too; make it unique"),
        (good | {"url": "/v1/embeddings"}, "url: '/v1/embeddings' must be '/v1/chat/completions'"),
        (good | {"method": "GET"}, "method: 'GET' must be 'POST'"),
        (good | {"body": None}, "body: is missing; must be an object with messages"),
        (request("e", "x", max_tokens=0), "body.max_tokens: 0 must be a whole number from 1"),
        (request("f", "x", stream=True), "body.stream: answers are written when they are whole"),
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
    file = write(tmp_path / "requests.jsonl", [good, *(line for line, _ in bad), b"\n", request("z", "fine")])

    assert main([str(file), "--answers", str(tmp_path / "answers.jsonl")]) == 1
    told = capsys.readouterr().err.splitlines()

    assert "nothing was sent" in told[0]
    for number, ((_, text), line) in enumerate(zip(bad, told[1:], strict=True), 2):
        assert line.startswith(f"line {number}: {text}")
    assert not (tmp_path / "answers.jsonl").exists()
    for empty in ([], [b"\n\n"]):
        with pytest.raises(BadRequests, match="has no requests"):
            look_through(write(tmp_path / "empty.jsonl", empty))
    assert main([str(tmp_path / "nowhere.jsonl"), "--answers", "x"]) == 1


def test_text_and_limits_of_a_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = {
        "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "I do"}],
        "max_completion_tokens": 9, "max_tokens": 12, "temperature": 0, "model": "m",
    }  # fmt: skip
    file = write(tmp_path / "requests.jsonl", [{**request("a", ""), "body": body}])
    batch = look_through(file)

    (read,) = batch.requests()
    query = orjson.loads(read.value)

    assert query["prompt"] == "look\n\nI do"
    assert query["messages"] == body["messages"]
    assert query["max_tokens"] == 9
    assert query["parameters"] == {"max_completion_tokens": 9, "temperature": 0}
    assert query["id"] == f"{batch.name}-a" == batch.query_id("a")
    assert query["metadata"] == {"batch": batch.name, "custom_id": "a"}
    assert batch.name == look_through(file).name != look_through(file, "again").name
    assert main([str(file), "--answers", "unused", "--check"]) == 0
    assert "1 requests, all fine" in capsys.readouterr().out


def test_files_of_something_else_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    file = write(tmp_path / "requests.jsonl", [request("a", "x")])
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

    batch = look_through(file)
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(ValueError, match="was changed while it was sent"):
        list(batch.requests())


def test_a_request_nested_too_deeply_is_told_with_its_line(tmp_path: Path):
    line = orjson.dumps(request("a", "x"))
    assert line.endswith(b"}}")
    file = tmp_path / "requests.jsonl"
    file.write_bytes(line[:-2] + b',"response_format":' + b"[" * 300 + b"]" * 300 + b"}}")
    with pytest.raises(BadRequests, match=r"line 1: body: cannot be written as JSON .*nest it less"):
        look_through(file)


@pytest.mark.parametrize("left", [1, 9, 20, -1])
def test_a_line_of_ours_that_was_cut_off_is_taken_away(left: int, tmp_path: Path):
    batch = look_through(write(tmp_path / "requests.jsonl", [request("a", "x"), request("b", "y")]))
    whole, torn = (
        orjson.dumps({"id": f"{batch.name}-{name}", "custom_id": name, "response": None, "error": {}})
        for name in ("a", "b")
    )
    for padding in (b"", b"\0" * 9):
        answers = tmp_path / "answers.jsonl"
        answers.write_bytes(whole + b"\n" + torn[:left] + padding)
        file = AnswersFile(answers, batch)
        file.close(complete=False)
        assert file.done == {"a"}
        assert answers.read_bytes() == whole + b"\n"


@pytest.mark.parametrize("way", ["itself", "another spelling", "symlink", "hard link", "state", "part"])
def test_answers_are_not_written_over_the_requests(
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


def test_a_response_made_of_a_text_has_what_clients_look_for():
    body = response_body({"id": "q", "model": "m", "answer": "Yes.", "finish_reason": "stop"}, 1_700_000_000)

    read = ChatCompletion.model_validate(body)
    assert (read.created, read.choices[0].message.content) == (1_700_000_000, "Yes.")
    assert response_body({"response": {"created": 5}}, 7) == {"created": 5}
