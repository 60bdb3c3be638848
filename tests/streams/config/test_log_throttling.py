"""A recurring problem is logged at first, now and then, and when it is resolved."""

import io
import logging
from collections.abc import Callable

import orjson
import pytest

from streams.config.log_setup import configure_logs
from streams.config.log_throttling import QUIET_SECONDS, RecurringProblem, RepeatedWarningFilter

Read = Callable[[], list[dict]]


@pytest.fixture
def read() -> Read:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    return lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_recurring_problem_is_logged_at_once_every_half_minute_and_at_its_end(read: Read):
    clock = Clock()
    trouble = RecurringProblem("broker_away", "broker_back", clock, topic="t")
    trouble.resolved()
    for _ in range(12):
        trouble.occurred(reason="timed out")
        clock.now += 5
    trouble.resolved()
    trouble.resolved()
    trouble.occurred(reason="again")

    lines = read()
    assert [line["event"] for line in lines] == ["broker_away", "broker_away", "broker_back", "broker_away"]
    assert (lines[0]["reason"], lines[0]["topic"]) == ("timed out", "t")
    assert "attempts" not in lines[0]
    assert (lines[1]["attempts"], lines[1]["seconds"]) == (7, 30)
    assert (lines[2]["attempts"], lines[2]["seconds"]) == (12, 60)
    assert lines[3]["reason"] == "again"


def test_repeated_warning_filter_logs_network_errors_rarely_and_without_traceback(read: Read):
    clock = Clock()
    (handler,) = [one for one in logging.root.handlers if one.filters]
    handler.filters = [RepeatedWarningFilter(clock)]
    log = logging.getLogger("aiokafka.consumer.group_coordinator")
    for node in range(40):
        try:
            raise ConnectionError(f"refused by {node}")
        except ConnectionError:
            log.exception("Unable to reach node %s", node)
        clock.now += 1
    log.error("something else")
    logging.getLogger("faust.app").error("of others")
    logging.getLogger("faust.app").error("of others")

    lines = read()
    assert [line["event"] for line in lines] == [
        "Unable to reach node 0",
        "Unable to reach node 30",
        "something else",
        "of others",
        "of others",
    ]
    assert (lines[0]["reason"], lines[1]["repeated"]) == ("ConnectionError('refused by 0')", 29)
    assert not [line for line in lines if "exception" in line]
    assert QUIET_SECONDS == 30


def test_repeated_warning_filter_keeps_tracebacks_of_other_errors(read: Read):
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("aiokafka.consumer.fetcher").exception("Unexpected error in fetcher routine")

    (line,) = read()
    assert "KeyError: 'x'" in line["exception"]
