"""Tests of the style check of documentation and code."""

from __future__ import annotations

import pytest

from infra.style_check import Passage, Rules, check_passage, markdown_passages, python_passages

WORDS = {"blue moon": "rarely", "gizmo": "device"}
RULES = Rules(words=WORDS, docstring_starts=("What", "All that"), paths=())


def find(passages: list[Passage]) -> list[tuple[int, str]]:
    """Return line and beginning of each finding."""
    findings = [finding for passage in passages for finding in check_passage("file", passage, RULES)]
    return sorted((finding.line, finding.message.split(":")[0]) for finding in findings)


def test_markdown_passages_leave_out_code():
    text = "A `gizmo`.\n\n```\ngizmo\n```\n\n    gizmo\n\nOnce in a blue\nmoon.\n"
    assert find(list(markdown_passages(text))) == [(9, '"blue moon"')]


def test_python_passages_are_comments_docstrings_texts_and_test_names():
    source = (
        '"""What is read."""\n'
        "# once in a blue\n"
        "# moon\n"
        "x = 'a gizmo'\n"
        "gizmo = 'gizmo'\n"
        "def test_gizmo_works(): ...\n"
    )
    assert find(list(python_passages(source))) == [
        (1, 'docstring begins with "What"'),
        (2, '"blue moon"'),
        (4, '"gizmo"'),
        (6, '"gizmo"'),
    ]


@pytest.mark.parametrize("text", ["Return a value.", "Whatever comes.", "All the rows.", "Gizmos."])
def test_check_passage_allowed_docstring_has_no_finding(text: str):
    assert find([Passage(1, text, docstring=True)]) == []
