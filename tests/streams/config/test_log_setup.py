"""Logs: one object a line, the libraries' too, with what is bound and without secrets."""

import io
import logging
import warnings
from collections.abc import Callable

import orjson
import pytest
import structlog
from pydantic import SecretStr

from streams.config.log_setup import configure_logs


@pytest.fixture
def lines() -> Callable[..., Callable[[], list[dict]]]:
    def start(level: str = "info") -> Callable[[], list[dict]]:
        stream = io.StringIO()
        configure_logs(level, "json", stream)
        return lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]

    return start


def test_json_log_event_has_keys_level_logger_and_time(lines: Callable):
    read = lines()
    log = structlog.get_logger("streams.router.router").bind(partition=3)

    log.info("batch_committed", offset=7, query_id="é")

    (line,) = read()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "batch_committed",
        "level": "info",
        "logger": "streams.router.router",
        "partition": 3,
        "offset": 7,
        "query_id": "é",
    }


def test_configure_logs_applies_to_existing_loggers(lines: Callable):
    log = structlog.get_logger("early")
    read = lines()

    log.warning("late")

    assert [line["event"] for line in read()] == ["late"]


def test_json_log_library_messages_are_events(lines: Callable):
    read = lines()

    logging.getLogger("faust.app").warning("rebalanced %s", "twice")
    logging.getLogger("aiokafka.consumer").info("not of use")
    logging.getLogger("some.library").error("with more", extra={"topic": "queries"})

    first, second = read()
    assert (first["event"], first["level"], first["logger"]) == ("rebalanced twice", "warning", "faust.app")
    assert (second["event"], second["topic"]) == ("with more", "queries")


@pytest.mark.parametrize("name", ["httpx2", "httpcore2.connection", "openai._base_client", "new.library"])
def test_library_noise_unlisted_library_logs_warnings_only(lines: Callable, name: str):
    read = lines()

    logging.getLogger(name).info("HTTP Request: POST http://localhost/v1/chat/completions")
    logging.getLogger(name).warning("slow")
    logging.getLogger("faust.worker").info("ready")

    assert [line["event"] for line in read()] == ["slow", "ready"]


def test_configure_logs_drops_events_below_the_level(lines: Callable):
    read = lines("warning")

    structlog.get_logger("a").info("no")
    logging.getLogger("faust").info("no")
    structlog.get_logger("a").error("yes")

    assert [line["event"] for line in read()] == ["yes"]


def test_json_log_exception_is_one_line(lines: Callable):
    read = lines()

    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("a").exception("lane_died")

    (line,) = read()
    assert "ValueError: broken" in line["exception"]


def test_mask_secrets_at_any_depth(lines: Callable):
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


def test_mask_secrets_shows_other_values(lines: Callable):
    read = lines()

    structlog.get_logger("a").info(
        "web_listening",
        asks_token=True,
        web_token=None,
        tokenizer="x",
        secret_santa=1,
        prompt_tokens=7,
        config=[{"sasl.password": "hunter2", "ssl.key.password": b"hunter2", "passwords": 2}],
    )

    (line,) = read()
    assert (line["asks_token"], line["web_token"], line["tokenizer"]) == (True, None, "x")
    assert (line["secret_santa"], line["prompt_tokens"]) == (1, 7)
    assert line["config"][0]["passwords"] == 2
    assert "hunter2" not in repr(line)


def test_mask_secrets_rounds_numbers(lines: Callable):
    read = lines()

    structlog.get_logger("a").info("x", cost=0.1 * 3, more={"budgets": [0.021020999999999998, 7]})
    logging.getLogger("b").warning("y", extra={"at": 1795900533.475})

    first, second = read()
    assert (first["cost"], first["more"]["budgets"]) == (0.3, [0.021021, 7])
    assert second["at"] == pytest.approx(1795900533.475, abs=0.01)


def test_configure_logs_captures_warnings(lines: Callable):
    read = lines()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)

    assert "old" in read()[0]["event"]


def test_console_log_is_readable():
    stream = io.StringIO()
    configure_logs("info", "console", stream)

    structlog.get_logger("a").info("plan_applied", plan=3)

    assert "plan_applied" in stream.getvalue()
    assert "plan=3" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_traceback_does_not_show_values_of_variables(form: str):
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
