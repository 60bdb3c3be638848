"""The fenced code blocks of the documentation, and the commands in them."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from port_router.__main__ import main as port_router
from tests.conftest import ROOT

SHELL = "bash"
NAME_CHARACTERS = 48
PYTHON = ("python", ".venv/bin/python")
PROJECT = ("port_router", "routing", "streams", "producers", "experiments", "infra", "benchmarks", "tests")
MAKE_TARGETS = frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@dataclass(frozen=True)
class CodeBlock:
    """One fenced block.

    Parameters
    ----------
    page : str
        Path of its page in the repository.
    line : int
        Line of its opening fence, from 1.
    language : str
        Language named after the fence; empty if there is none.
    text : str
        Its content without the fence's indentation.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Page and begin of the first line, which stay the same when the page grows above the block."""
        return f"{self.page}: {self.text.splitlines()[0].split('  #')[0][:NAME_CHARACTERS].strip()}"


def pages() -> list[Path]:
    """Return the pages of the documentation: README, CONTRIBUTING and everything in docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_blocks(*languages: str) -> list[CodeBlock]:
    """Return the blocks of all pages, in their order; of these languages only, if there are any."""
    fence = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
    blocks = []
    for page in pages():
        content = page.read_text()
        for match in fence.finditer(content):
            line = content.count("\n", 0, match.start()) + 1
            name, text = page.relative_to(ROOT).as_posix(), textwrap.dedent(match[3])
            blocks.append(CodeBlock(name, line, match[2].strip(), text))
    return [block for block in blocks if not languages or block.language in languages]


def inline_commands() -> Iterator[tuple[str, str]]:
    """Yield the commands that pages name within their text, with their page."""
    for page in pages():
        prose = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for command in re.findall(r"`((?:\.venv/bin/)?(?:python -m|port-router|make) [^`]+)`", prose):
            yield page.relative_to(ROOT).as_posix(), " ".join(command.split())


def split_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, without redirections and comments.

    Examples
    --------
    >>> list(split_commands("a b > c  # d\\nsource <(e f) &"))
    [['a', 'b'], ['c'], ['source'], ['e', 'f']]
    """
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("();<>|&"):
                yield from [words] if words else []
                words = []
            else:
                words.append(word)
        yield from [words] if words else []


class Parsed(BaseException):
    """The program has parsed its arguments, and would run now."""


class Misused(BaseException):
    """The program rejects its arguments."""


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program that a command names parse its arguments, and stop it there.

    Parameters
    ----------
    words : list of str
        The command. Programs that are not the project's are not run.
    monkeypatch : pytest.MonkeyPatch

    Raises
    ------
    Misused
        The program rejects the arguments; the message is its own.
    """
    if words[0] == "make":
        for word in words[1:]:
            if "=" not in word and word not in MAKE_TARGETS:
                raise Misused(f"the Makefile has no target {word}")
    elif words[0] == "port-router":
        _run(port_router, words, monkeypatch)
    elif words[0] in PYTHON and words[1] == "-m" and words[2].partition(".")[0] in PROJECT:
        module = importlib.import_module(words[2])
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{words[2]}.__main__")
        _run(module.main, words[2:], monkeypatch)


def _run(main: object, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    def parse_only(*arguments: object, **options: object) -> None:
        parse_args(*arguments, **options)  # type: ignore[call-overload]
        raise Parsed

    def misused(parser: argparse.ArgumentParser, message: str) -> None:
        raise Misused(f"{parser.prog}: {message}")

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr(argparse.ArgumentParser, "error", misused)
        patch.setattr(sys, "argv", words)
        try:
            main()  # type: ignore[operator]
        except (Parsed, SystemExit):
            return
    raise AssertionError(f"{shlex.join(words)} ended without parsing its arguments")
