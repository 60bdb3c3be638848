"""Progress: a bar on a terminal, lines in a file."""

import contextlib
import io

import pytest

from routing import progress
from routing.progress import Progress, tracked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_to_a_file_writes_lines(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    with Progress(3, "embedding", "texts", stream=stream) as shown:
        assert stream.getvalue() == "embedding: 0 of 3 texts\n"
        shown.advance(1)
        shown.advance(1, "slow")
        monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
        shown.move_to(2)

    shown.move_to(3)
    assert stream.getvalue().splitlines() == [
        "embedding: 0 of 3 texts",
        "embedding: 2 of 3 texts; slow",
        "embedding: 3 of 3 texts; slow",
    ]


def test_progress_after_an_error_writes_the_last_line():
    stream = io.StringIO()
    with contextlib.suppress(ZeroDivisionError), Progress(3, "embedding", "texts", stream=stream) as shown:
        shown.advance(2)
        raise ZeroDivisionError

    assert stream.getvalue().splitlines()[-1] == "embedding: 2 of 3 texts"


def test_progress_on_a_terminal_draws_a_bar():
    stream = Terminal()
    with Progress(3, "embedding", "texts", initial=1, stream=stream) as shown:
        shown.advance(1)

    assert "67%" in stream.getvalue()
    assert "embedding: 1 of 3" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_progress_quiet_writes_nothing(stream: io.StringIO):
    with Progress(3, "embedding", "texts", quiet=True, stream=stream) as shown:
        shown.advance(3)

    assert stream.getvalue() == ""


def test_tracked_counts_items(capsys: pytest.CaptureFixture[str]):
    assert list(tracked("ab", "runs, seed 0", "runs")) == ["a", "b"]

    assert capsys.readouterr().err == "runs, seed 0: 0 of 2 runs\nruns, seed 0: 2 of 2 runs\n"
