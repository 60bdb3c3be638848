"""Numbers on the command lines of all programs: one meaning everywhere, invalid ones are rejected."""

import argparse
import importlib
import math
from collections.abc import Callable

import pytest

from infra.demo import parser as demo
from producers.batch.__main__ import parser as batch
from producers.fleet.__main__ import parser as fleet
from producers.prepare import parser as prepare
from producers.replay import parser as replay
from producers.send import parser as send
from routing.__main__ import parser as fit


def command(name: str) -> Callable[[], argparse.ArgumentParser]:
    def parser() -> argparse.ArgumentParser:
        arguments = argparse.ArgumentParser()
        importlib.import_module(f"streams.commands.{name}").add_arguments(arguments)
        return arguments

    return parser


@pytest.mark.parametrize(
    ("parser", "arguments"),
    [
        (replay, ["folder", "--limit", "0"]),
        (replay, ["folder", "--limit", "-5"]),
        (replay, ["folder", "--repeat", "0"]),
        (replay, ["folder", "--rate", "-3"]),
        (replay, ["folder", "--deadline", "0"]),
        (replay, ["folder", "--seed", "-1"]),
        (send, ["--rate", "-3"]),
        (send, ["--max-tokens", "0"]),
        (send, ["--deadline", "nan"]),
        (batch, ["file", "--answers", "answers", "--patience", "0"]),
        (fleet, ["--llm", "a", "--base-url", "b", "--concurrency", "0"]),
        (fleet, ["--llm", "a", "--base-url", "b", "--attempts", "-1"]),
        (fleet, ["--llm", "a", "--base-url", "b", "--request-seconds", "0"]),
        (fleet, ["--llm", "a", "--base-url", "b", "--input-price", "-1"]),
        (prepare, ["--dataset", "demo", "--out", "x", "--queries", "-1"]),
        (prepare, ["--dataset", "demo", "--out", "x", "--budget-factor", "0"]),
        (demo, ["--queries", "0"]),
        (demo, ["--rate", "-1"]),
        (fit, ["fit", "--dataset", "x", "--out", "y", "--rows", "0"]),
        (command("dlq"), ["replay", "queries", "--rate", "-1"]),
        (command("dlq"), ["replay", "queries", "--limit", "0"]),
        (command("dlq"), ["show", "queries", "x"]),
        (command("explain"), ["id", "--neighbours", "0"]),
        (command("bill"), ["--period", "0"]),
    ],
)
def test_program_with_an_invalid_number_exits_with_a_message(
    parser: Callable[[], argparse.ArgumentParser],
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(arguments)

    assert caught.value.code == 2
    assert f"{arguments[-1]!r} must be a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parser", "arguments"),
    [(replay, ["folder"]), (send, []), (demo, []), (command("dlq"), ["replay", "queries"])],
)
def test_program_with_rate_0_has_no_limit(
    parser: Callable[[], argparse.ArgumentParser], arguments: list[str]
):
    assert parser().parse_args([*arguments, "--rate", "0"]).rate is None
    assert math.isclose(parser().parse_args([*arguments, "--rate", "2.5"]).rate, 2.5)
