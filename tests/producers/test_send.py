"""Prompts of one's own: from arguments, files and standard input, and where each went."""

import gzip
import io
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import orjson
import pytest
from confluent_kafka import Producer

from producers.send import main, parser, read_queries
from routing.policy.price_origin import PriceOrigin
from streams.kafka.clients import producer_config
from streams.messages.plan import PLAN_KEY, encode_plan
from tests.producers.conftest import RouterStarter
from tests.streams.sample_cluster import make_plan


def queries(*arguments: str) -> list[dict]:
    return [orjson.loads(value) for _, value in read_queries(parser().parse_args(list(arguments)))]


def test_read_queries_arguments_get_unique_ids():
    first, second = queries("Why?", "How?", "--max-tokens", "7")

    assert (first["prompt"], second["prompt"]) == ("Why?", "How?")
    assert first["id"] != second["id"]
    assert first["max_tokens"] == 7


def test_read_queries_text_and_json_files_are_read(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Why?\n\n  How? \n")
    (tmp_path / "a.jsonl").write_text('{"id": "x", "prompt": "Why?", "team": 1}\n{"prompt": "How?"}\n')

    assert [query["prompt"] for query in queries("--file", str(tmp_path / "a.txt"))] == ["Why?", "How?"]
    first, second = queries("--file", str(tmp_path / "a.jsonl"))
    assert first == {"id": "x", "prompt": "Why?", "team": 1}
    assert second["id"]


@pytest.mark.parametrize("name", ["a.ndjson", "a.JSONL", "a.jsonl.gz", "a.json"])
def test_read_queries_jsonl_flag_ignores_the_file_name(name: str, tmp_path: Path):
    content = b'{"id": "x", "prompt": "Why?"}\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    assert queries("--file", str(tmp_path / name)) == [{"id": "x", "prompt": "Why?"}]


def test_read_queries_json_object_as_prompt_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = 'Why {"x"}?\n{ not JSON }\n  {"prompt": "How?"}\n'
    (tmp_path / "a.txt").write_text(lines)
    with pytest.raises(ValueError, match="line 3: is a JSON object; use --jsonl"):
        queries("--file", str(tmp_path / "a.txt"))

    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    with pytest.raises(ValueError, match="line 3: is a JSON object; use --jsonl"):
        queries()

    with pytest.raises(ValueError, match="PROMPT 2: is a JSON object"):
        queries("Why?", ' {"id": "a", "prompt": "How?"}')

    (tmp_path / "a.txt").write_text("".join(lines.splitlines(keepends=True)[:2]))
    assert [q["prompt"] for q in queries("--file", str(tmp_path / "a.txt"))] == ['Why {"x"}?', "{ not JSON }"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_read_queries_byte_order_mark_is_removed(encoding: str, tmp_path: Path):
    (tmp_path / "a.txt").write_text("Why é?\nHow?\n", encoding=encoding)
    (tmp_path / "a.jsonl").write_text('{"prompt": "Why é?"}', encoding=encoding)

    assert [q["prompt"] for q in queries("--file", str(tmp_path / "a.txt"))] == ["Why é?", "How?"]
    assert [q["prompt"] for q in queries("--file", str(tmp_path / "a.jsonl"))] == ["Why é?"]


def test_read_queries_null_field_counts_as_missing(monkeypatch: pytest.MonkeyPatch):
    lines = '{"id": null, "prompt": "Why?", "max_tokens": null}\n{"id": null}\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))

    values = [value for _, value in read_queries(parser().parse_args(["--jsonl", "--max-tokens", "7"]))]

    first, second = map(orjson.loads, values)
    assert first == {"id": first["id"], "prompt": "Why?", "max_tokens": 7}
    assert uuid.UUID(first["id"]) != uuid.UUID(second["id"])
    assert values[0].count(b'"id"') == 1


def test_read_queries_json_text_is_preserved(monkeypatch: pytest.MonkeyPatch):
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


def test_read_queries_deeply_nested_id_is_left_to_the_router(monkeypatch: pytest.MonkeyPatch):
    text = '{"id": ' + "[" * 1010 + "]" * 1010 + ', "prompt": "Why?"}'
    monkeypatch.setattr("sys.stdin", io.StringIO(text))

    arguments = parser().parse_args(["--jsonl"])
    assert list(read_queries(arguments)) == [("[[[[[[[...]]]]]]]", text.encode())]


def test_read_queries_without_arguments_reads_standard_input(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\n"))
    assert [query["prompt"] for query in queries()] == ["Why?"]

    monkeypatch.setattr("sys.stdin", io.StringIO('{"prompt": "How?"}\n'))
    assert [query["prompt"] for query in queries("--jsonl")] == ["How?"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 1: is not JSON"), ("[]", "line 1: is a list"), ("7", "line 1: is a int")],
)
def test_read_queries_invalid_line_is_reported(monkeypatch: pytest.MonkeyPatch, line: str, message: str):
    monkeypatch.setattr("sys.stdin", io.StringIO(line))

    with pytest.raises(ValueError, match=message):
        queries("--jsonl")


def test_read_queries_invalid_utf8_is_reported_with_its_position(
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


def test_read_queries_duplicate_id_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"id": "a", "prompt": "b"}\n' * 2))

    with pytest.raises(ValueError, match="'a' is a duplicate"):
        queries("--jsonl")


@pytest.fixture
def router(stream: RouterStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [small, large]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    return stream()


def test_send_follow_prints_where_queries_went(
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
    assert shown["q5"] == "q5  unserved: not_worth_it  question 5"
    routed = {line.split()[1] for name, line in shown.items() if name not in ("bad", "q5")}
    assert routed <= {"small", "large"}


def test_send_follow_needs_no_catalogue(
    router, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    router.unserved = set()
    monkeypatch.delenv("PORT_CATALOGUE")

    assert main(["Why?", "How?", "--follow", "--deadline", "20"]) == 0

    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {words[1] for words in shown} == {"small", "large"}
    assert sorted(words[-1] for words in shown) == ["How?", "Why?"]


def test_send_follow_messages_show_their_text(router, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    router.unserved = set()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    (tmp_path / "q.jsonl").write_bytes(orjson.dumps({"id": "q", "messages": messages}))

    assert main(["--file", str(tmp_path / "q.jsonl"), "--follow", "--deadline", "20"]) == 0

    assert capsys.readouterr().out.rstrip().endswith("USD  Why? Be brief.")


def test_send_follow_lost_query_is_reported(router, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    router.lose = {"lost"}
    (tmp_path / "q.jsonl").write_text('{"id": "lost", "prompt": "Why?"}')

    assert main(["--file", str(tmp_path / "q.jsonl"), "--follow", "--deadline", "1"]) == 1
    assert "lost  not found yet" in capsys.readouterr().err


def test_send_follow_reason_for_waiting_is_printed(router, capsys: pytest.CaptureFixture[str]):
    router.lose = {"q"}
    settings = router.settings
    # long enough for a busy machine to read the plan once
    arguments = ["--jsonl", "--follow", "--deadline", "6"]
    query = '{"id": "q", "prompt": "Why?"}'
    with mock.patch("sys.stdin", io.StringIO(query)):
        assert main(arguments) == 1
    assert "no worker has run yet: start one with `python -m streams worker`" in capsys.readouterr().err

    waiting = PriceOrigin(warmup="buffer", warmup_seconds=5.0)
    plan = make_plan(learned=False, until=250, solved_from=waiting)
    for message, published in (
        ("the router waits for 250 queries to learn prices from, at most 5 s after the first", plan),
        ("waiting for a worker to route; giving up after 6 s", replace(plan, learned=True)),
    ):
        producer = Producer(producer_config(settings))
        producer.produce(settings.topics.plans, encode_plan(published), PLAN_KEY, partition=0)
        assert producer.flush(20) == 0
        with mock.patch("sys.stdin", io.StringIO(query)):
            assert main(arguments) == 1
        assert message in capsys.readouterr().err


def test_send_without_follow_only_sends(router, capsys: pytest.CaptureFixture[str], read_topics: Callable):
    assert main(["Why?", "How?"]) == 0

    assert "2 of 2 queries" in capsys.readouterr().err
    sent = [
        orjson.loads(message.value())["prompt"] for message in read_topics([router.settings.topics.queries])
    ]
    assert sorted(sent) == ["How?", "Why?"]
