"""Graders: commands and URLs, what they receive, and grades that are none."""

import asyncio
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import orjson
import pytest
from structlog.testing import capture_logs

from producers.fleet.grader import CommandGrader, UrlGrader, make_grader
from streams.config.settings import Settings
from tests.producers.fleet.chat_server import ChatServer
from tests.producers.fleet.fleet_process import fleet
from tests.producers.fleet.routed_topic import RoutedTopic

QUERY, ANSWER = {"id": "q", "prompt": "1 + 1?"}, {"answer": "2"}
LENGTH = "import json, sys; print(len(json.load(sys.stdin)['answer']['answer']) / 10)"


def python(code: str, seconds: float = 20.0) -> CommandGrader:
    return CommandGrader((sys.executable, "-c", code), seconds)


def grade(grader) -> float | None:
    return asyncio.run(grader.grade(QUERY, ANSWER))


def test_command_reads_query_and_answer_and_prints_the_quality():
    check = "import json, sys; d = json.load(sys.stdin); print(d['query']['id'] == 'q' and 0.25)"
    assert grade(python(check)) == 0.25
    assert grade(python(LENGTH)) == 0.1
    assert grade(python("print('{\"quality\": 1}')")) == 1.0


@pytest.mark.parametrize(
    ("grader", "reason"),
    [
        (python("print(1.5)"), "1.5 is not from 0 to 1"),
        (python("print('good')"), "is not a number"),
        (python("print('true')"), "True is not from 0 to 1"),
        (python("raise SystemExit(3)"), "exit status 3"),
        (python("import time; time.sleep(60)", seconds=0.5), "no grade within 0.5 s"),
        (CommandGrader(("/no/such/program",), 1.0), "No such file"),
        (UrlGrader("http://127.0.0.1:9/grade", 1.0), "ConnectError"),
    ],
)
def test_grade_that_is_none_is_logged_with_the_reason(grader, reason):
    with capture_logs() as logs:
        assert grade(grader) is None
    assert logs[0]["event"] == "answer_ungraded"
    assert reason in logs[0]["reason"]


def test_make_grader_of_a_url_or_a_command():
    assert make_grader("https://grader/x", 2.0) == UrlGrader("https://grader/x", 2.0)
    assert make_grader("grade 'my file'", 2.0) == CommandGrader(("grade", "my file"), 2.0)
    for text, reason in (("", "is empty"), ("grade 'open", "is not a command")):
        with pytest.raises(ValueError, match=reason):
            make_grader(text, 2.0)


def test_url_posts_query_and_answer():
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"quality": 0.5}')

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.handle_request)
        thread.start()
        assert grade(UrlGrader(f"http://127.0.0.1:{http.server_port}/grade", 10.0)) == 0.5
        thread.join(10)
    assert posted == [{"query": QUERY, "answer": ANSWER}]


def test_fleet_with_a_grader_reports_quality_with_outcomes_of_answers_only(
    settings: Settings, stream: RoutedTopic, server: ChatServer
):
    server.faults["never"].extend(["400"])
    stream.put("plain", "never", max_tokens=9)
    with fleet(settings, server, grader=python(LENGTH)):
        stream.wait_for_answers(2)
    assert {o.id.removeprefix("q-"): o.quality for _, o in stream.outcomes()} == {"plain": 0.5, "never": None}
