"""Prompts of one's own: from arguments, files and standard input, and where each went."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from producers.send import main, parser, read_queries
from tests.producers.conftest import RouterStarter


def queries(*arguments: str) -> list[dict]:
    return [orjson.loads(value) for _, value in read_queries(parser().parse_args(list(arguments)))]


def test_arguments_are_prompts_with_ids_of_their_own():
    first, second = queries("Why?", "How?", "--max-tokens", "7")

    assert (first["prompt"], second["prompt"]) == ("Why?", "How?")
    assert first["id"] != second["id"]
    assert first["max_tokens"] == 7


def test_lines_of_a_file_and_lines_of_json(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Why?\n\n  How? \n")
    (tmp_path / "a.jsonl").write_text('{"id": "x", "prompt": "Why?", "team": 1}\n{"prompt": "How?"}\n')

    assert [query["prompt"] for query in queries("--file", str(tmp_path / "a.txt"))] == ["Why?", "How?"]
    first, second = queries("--file", str(tmp_path / "a.jsonl"))
    assert first == {"id": "x", "prompt": "Why?", "team": 1}
    assert second["id"]


def test_what_a_line_says_is_sent_as_it_is_written(monkeypatch: pytest.MonkeyPatch):
    deep = "[" * 300 + "]" * 300
    lines = (
        '{"id": "a", "prompt": "Why?", "n": 123456789012345678901234567890.10}',
        '{"prompt": "How?", "metadata": {"deep": ' + deep + '}, "big": 18446744073709551616 }',
        "{}",
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))

    sent = dict(read_queries(parser().parse_args(["--jsonl", "--max-tokens", "7"])))

    (first, *others), values = sent.keys(), list(sent.values())
    assert values[0].decode() == lines[0][:-1] + ',"max_tokens":7}'
    added = [f'"id":"{identity}","max_tokens":7}}' for identity in others]
    assert values[1].decode() == lines[1][:-1] + "," + added[0]
    assert values[2].decode() == "{" + added[1]
    assert [first, *others] == [orjson.loads(value)["id"] for value in values]


def test_an_id_that_nobody_can_show_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"id": ' + "[" * 1010 + "]" * 1010 + ', "prompt": "Why?"}'))

    with pytest.raises(ValueError, match="line 1: id: is nested too deeply"):
        queries("--jsonl")


def test_standard_input(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\n"))
    assert [query["prompt"] for query in queries()] == ["Why?"]

    monkeypatch.setattr("sys.stdin", io.StringIO('{"prompt": "How?"}\n'))
    assert [query["prompt"] for query in queries("--jsonl")] == ["How?"]


@pytest.mark.parametrize(
    ("line", "told"), [("{", "line 1: is not JSON"), ("[]", "line 1: is a list"), ("7", "line 1: is a int")]
)
def test_a_line_that_is_no_query_is_told(monkeypatch: pytest.MonkeyPatch, line: str, told: str):
    monkeypatch.setattr("sys.stdin", io.StringIO(line))

    with pytest.raises(ValueError, match=told):
        queries("--jsonl")


def test_bytes_that_are_no_utf8_are_told_with_their_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    latin = os.fsdecode("a café".encode("latin-1"))  # as Python gives such an argument
    assert main(["Why?", latin]) == 1
    assert capsys.readouterr().err.startswith("error: PROMPT 2: is not UTF-8 at ...a caf\\xe9; convert it")

    (tmp_path / "q.txt").write_bytes(b"Why?\n\xe9?\n")
    assert main(["--file", str(tmp_path / "q.txt")]) == 1
    assert "line 2: is not UTF-8 at ...\\xe9; convert it" in capsys.readouterr().err

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"id": "\xff"}'), "utf-8"))
    assert main(["--jsonl"]) == 1
    assert 'line 1: is not UTF-8 at ...{"id": "\\xff; convert it' in capsys.readouterr().err


def test_an_id_that_is_there_twice_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"id": "a", "prompt": "b"}\n' * 2))

    with pytest.raises(ValueError, match="'a' is there twice"):
        queries("--jsonl")


@pytest.fixture
def router(stream: RouterStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [small, large]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    return stream()


def test_followed_queries_are_shown_where_they_went(
    router, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    router.unserved = {"q5"}
    lines = [{"id": f"q{i}", "prompt": f"question {i}"} for i in range(9)] + [{"id": "bad", "prompt": ""}]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(orjson.dumps(line).decode() for line in lines)))

    assert main(["--jsonl", "--follow", "--deadline", "20"]) == 0

    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert len(shown) == 10
    assert "dead letter: prompt: " in shown["bad"]
    assert "quality 0.000, cost 1e-05 USD  question 3" in shown["q3"]
    assert shown["q5"] == "q5  unserved: its turn  question 5"
    routed = {line.split()[1] for name, line in shown.items() if name not in ("bad", "q5")}
    assert routed <= {"small", "large"}


def test_what_does_not_arrive_is_told(router, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    router.lose = {"lost"}
    (tmp_path / "q.jsonl").write_text('{"id": "lost", "prompt": "Why?"}')

    assert main(["--file", str(tmp_path / "q.jsonl"), "--follow", "--deadline", "1"]) == 1
    assert "lost  is nowhere yet" in capsys.readouterr().err


def test_without_follow_they_are_only_sent(router, capsys: pytest.CaptureFixture[str], read_topics: Callable):
    assert main(["Why?", "How?"]) == 0

    assert "2 of 2 queries" in capsys.readouterr().err
    sent = [
        orjson.loads(message.value())["prompt"] for message in read_topics([router.settings.topics.queries])
    ]
    assert sorted(sent) == ["How?", "Why?"]
