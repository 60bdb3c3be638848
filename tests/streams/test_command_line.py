"""What every command does with errors: a line for what its user can mend, and no traceback."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.command_line import told_in_a_line
from streams.settings import Settings
from tests.conftest import ROOT


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), "bootstrap_servers: the broker failed (Local: T"),
        (KafkaException("no client"), "bootstrap_servers: the broker failed (no client); see that it runs"),
        (ValueError("rate: 0 is too little"), "rate: 0 is too little"),
        (FileNotFoundError("there: nothing was fitted there"), "there: nothing was fitted there"),
    ],
)
def test_what_can_be_mended_is_told_in_a_line(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
):
    assert told_in_a_line(raising(error)) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert told_in_a_line(lambda: tmp_path.write_text("x")) == 1

    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"


def test_wrong_settings_are_told_with_value_and_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PORT_HORIZON", "0")
    assert told_in_a_line(lambda: Settings() and 0) == 1
    assert "error: horizon: '0' must be a whole number from 1 to 1000000000000; correct PORT_HORIZON\n" in (
        capsys.readouterr().err
    )
    monkeypatch.setenv("PORT_HORIZON", "1")
    monkeypatch.setenv("PORT_LOCKSTEP", "yes")

    assert told_in_a_line(lambda: Settings() and 0) == 1
    assert "error: lockstep: needs one partition, there are 4; set partitions to 1\n" in (
        capsys.readouterr().err
    )


def test_what_is_not_foreseen_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        told_in_a_line(raising(ZeroDivisionError()))


def test_a_reader_that_leaves_early_is_no_error():
    program = "from streams.command_line import told_in_a_line\n"
    program += "raise SystemExit(told_in_a_line(lambda: print('y' * 1_000_000) or print('z') or 0))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()

    told = process.stderr.read()
    process.stderr.close()

    assert (process.wait(60), told) == (1, b"")
