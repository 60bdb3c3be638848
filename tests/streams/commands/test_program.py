"""Errors and variables of all commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.__main__ import main as streams_main
from streams.commands.program import run_command
from streams.config.settings import Settings
from tests.conftest import ROOT


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), "bootstrap_servers: the broker failed (Local: T"),
        (KafkaException("no client"), "bootstrap_servers: the broker failed (no client); check that it runs"),
        (ValueError("rate: 0 is too little"), "rate: 0 is too little"),
        (FileNotFoundError("there: nothing was fitted there"), "there: nothing was fitted there"),
    ],
)
def test_run_command_with_a_user_error_prints_one_line(
    error: Exception, printed: str, capsys: pytest.CaptureFixture[str]
):
    assert run_command(raising(error)) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {printed}")


def test_run_command_with_an_unwritable_file_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(lambda: tmp_path.write_text("x")) == 1

    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"


def test_run_command_with_invalid_settings_prints_value_and_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PORT_HORIZON", "0")
    assert run_command(lambda: Settings() and 0) == 1
    assert "error: horizon: '0' must be a whole number from 1 to 1000000000000; correct PORT_HORIZON\n" in (
        capsys.readouterr().err
    )
    monkeypatch.setenv("PORT_HORIZON", "1")
    monkeypatch.setenv("PORT_LOCKSTEP", "yes")

    assert run_command(lambda: Settings() and 0) == 1
    assert "error: lockstep: needs one partition, there are 4; set partitions to 1\n" in (
        capsys.readouterr().err
    )


def test_run_command_with_an_unexpected_error_raises():
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


def test_run_command_with_a_closed_pipe_prints_no_error():
    program = "from streams.commands.program import run_command\n"
    program += "raise SystemExit(run_command(lambda: print('y' * 1_000_000) or print('z') or 0))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()

    printed = process.stderr.read()
    process.stderr.close()

    assert (process.wait(60), printed) == (1, b"")


@pytest.mark.parametrize(
    "command",
    [
        "streams --env-file {a} config check --offline",
        "streams config check --offline --env-file {a}",
        "streams config check --env-file={a} --offline",
        "streams --env-file={a} dlq list --env-file {b}",
        "streams dlq --env-file {b} list --env-file={a}",
        "streams plan show --env-file {a}",
        "streams bill --env-file {a}",
        "producers.send Why? --env-file {a}",
        "producers.send --env-file={a} Why?",
        "producers.batch x.jsonl --answers y --env-file {a}",
        "producers.batch --env-file={a} x.jsonl --answers y",
        "producers.replay folder --env-file {a}",
        "producers.fleet --llm x --base-url http://127.0.0.1:1 --env-file {a}",
    ],
)
def test_env_file_option_is_accepted_before_and_after_the_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a").write_text("PORT_SEED=7\nPORT_HORIZON='it\\'s wrong'\n")
    (tmp_path / "b").write_text("PORT_SEED=8\nPORT_K=9\n")
    for name in ("PORT_SEED", "PORT_HORIZON", "PORT_K"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    module, *arguments = command.format(a=tmp_path / "a", b=tmp_path / "b").split()
    imported = import_module(module)
    main = imported.main if hasattr(imported, "main") else import_module(f"{module}.__main__").main

    main(arguments)

    assert os.environ["PORT_SEED"] == ("8" if command.endswith("{b}") else "7")
    assert os.environ.get("PORT_K") == ("9" if "{b}" in command else None)
    assert os.environ["PORT_HORIZON"] == "it's wrong"
    capsys.readouterr()


def test_env_file_does_not_override_set_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").write_text("PORT_SEED=7\n")
    monkeypatch.setenv("PORT_SEED", "1")

    streams_main(["bill", "--env-file", str(tmp_path / "a")])

    assert os.environ["PORT_SEED"] == "1"


@pytest.mark.parametrize("arguments", [["--env-file", "{a}", "bill"], ["bill", "--env-file={a}"]])
@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("A=1\nB='it's'\n", "a, line 2: cannot be read"),
        ("", "a: has no variables"),
        (None, "a cannot be read (No such file or directory)"),
    ],
)
def test_unreadable_env_file_exits_with_status_2(
    arguments: list[str], text: str | None, reported: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if text is not None:
        (tmp_path / "a").write_text(text)

    with pytest.raises(SystemExit) as ended:
        streams_main([argument.format(a=tmp_path / "a") for argument in arguments])

    assert ended.value.code == 2
    assert f"--env-file: {tmp_path / reported}" in capsys.readouterr().err
