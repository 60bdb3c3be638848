"""Tables for people."""

import sys

import pytest

from streams.operations.console_table import table_lines


def test_table_lines_aligns_numbers_right_and_names_left():
    lines = table_lines(["LLM", "queries", "mask"], [["small", 7, ""], ["large", 12, "closed"]], left=(0, 2))

    assert lines == [
        "LLM    queries  mask",
        "small        7",
        "large       12  closed",
    ]


def test_table_lines_without_headers_begins_with_the_first_row():
    assert table_lines(["", ""], [["a", 1]], indent=2) == ["  a  1"]


def test_table_lines_with_long_cells_keeps_them_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    name = "x" * 300

    (line,) = table_lines(["", ""], [[name, 7]])

    assert line == f"{name}  7"


def test_table_lines_with_markup_and_control_characters_shows_them_as_text():
    (line,) = table_lines(["", ""], [["[bold]a\n\x1b[31m", "b"]])

    assert line == "[bold]a\\n\\x1b[31m  b"


def test_table_lines_on_a_terminal_has_bold_headers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    header, row = table_lines(["LLM", "queries"], [["small", 7]])

    assert "\x1b[1mLLM" in header
    assert row == "small        7"
