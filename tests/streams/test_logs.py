"""Logs: one object a line, the libraries' too, with what is bound and without secrets."""

import io
import logging
import warnings
from collections.abc import Callable

import orjson
import pytest
import structlog
from pydantic import SecretStr

from streams.logs import configure_logs


@pytest.fixture
def lines() -> Callable[..., Callable[[], list[dict]]]:
    def start(level: str = "info") -> Callable[[], list[dict]]:
        stream = io.StringIO()
        configure_logs(level, "json", stream)
        return lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]

    return start


def test_an_event_has_its_keys_level_logger_and_time(lines: Callable):
    read = lines()
    log = structlog.get_logger("streams.router").bind(partition=3)

    log.info("batch_committed", offset=7, query_id="é")

    (line,) = read()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "batch_committed",
        "level": "info",
        "logger": "streams.router",
        "partition": 3,
        "offset": 7,
        "query_id": "é",
    }


def test_a_logger_made_before_the_logs_were_set_up_follows(lines: Callable):
    log = structlog.get_logger("early")
    read = lines()

    log.warning("late")

    assert [line["event"] for line in read()] == ["late"]


def test_the_libraries_logs_are_events_too(lines: Callable):
    read = lines()

    logging.getLogger("faust.app").warning("rebalanced %s", "twice")
    logging.getLogger("aiokafka.consumer").info("not of use")
    logging.getLogger("some.library").error("with more", extra={"topic": "queries"})

    first, second = read()
    assert (first["event"], first["level"], first["logger"]) == ("rebalanced twice", "warning", "faust.app")
    assert (second["event"], second["topic"]) == ("with more", "queries")


def test_less_than_the_level_is_left_out(lines: Callable):
    read = lines("warning")

    structlog.get_logger("a").info("no")
    logging.getLogger("faust").info("no")
    structlog.get_logger("a").error("yes")

    assert [line["event"] for line in read()] == ["yes"]


def test_an_exception_is_one_line(lines: Callable):
    read = lines()

    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("a").exception("lane_died")

    (line,) = read()
    assert "ValueError: broken" in line["exception"]


def test_secrets_are_masked_wherever_they_are(lines: Callable):
    read = lines()

    structlog.get_logger("a").info(
        "client_made",
        sasl_password="hunter2",
        config={"sasl.password": "hunter2", "inner": {"api_key": "hunter2", "topic": "t"}},
        wrapped=SecretStr("hunter2"),
        max_tokens=7,
    )
    logging.getLogger("b").warning("given", extra={"web_token": "hunter2"})

    first, second = read()
    assert "hunter2" not in repr(first) + repr(second)
    assert first["config"]["inner"]["topic"] == "t"
    assert first["max_tokens"] == 7


def test_warnings_are_logged(lines: Callable):
    read = lines()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)

    assert "old" in read()[0]["event"]


def test_for_people():
    stream = io.StringIO()
    configure_logs("info", "console", stream)

    structlog.get_logger("a").info("plan_applied", plan=3)

    assert "plan_applied" in stream.getvalue()
    assert "plan=3" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_does_not_show_the_values_of_variables(form: str):
    stream = io.StringIO()
    configure_logs("info", form, stream)
    password = "-".join(["hunter", "2"])

    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("a").exception("lane_died")
        logging.getLogger("faust").exception("crashed")

    assert stream.getvalue().count("ValueError: broken") == 2
    assert password not in stream.getvalue()
