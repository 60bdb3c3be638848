"""Style check of the prose: spelling, words to avoid, and docstrings that begin with a relative clause.

    python -m infra.style_check             # every finding, one line each; exit status 1 if there is one
    python -m infra.style_check --summary   # the number of findings per package

It reads Markdown files, and the comments, docstrings, texts and test names of Python files. The words and the
paths are in `[tool.style_check]` of pyproject.toml, and codespell's exceptions in `[tool.codespell]`.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the repository."""


@dataclass(frozen=True)
class Passage:
    """A piece of prose in a file.

    Parameters
    ----------
    line : int
        Line of its first character, counted from 1.
    text : str
    docstring : bool
    """

    line: int
    text: str
    docstring: bool = False


@dataclass(frozen=True)
class Finding:
    """A word or phrase to replace."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Rules:
    """Words to avoid, with their replacements, and words that must not begin a docstring."""

    words: dict[str, str]
    docstring_starts: tuple[str, ...]
    paths: tuple[str, ...]

    @classmethod
    def load(cls, pyproject: Path) -> Rules:
        """Read the rules from pyproject.toml."""
        table = tomllib.loads(pyproject.read_text())["tool"]["style_check"]
        return cls(table["words"], tuple(table["docstring-starts"]), tuple(table["paths"]))


def markdown_passages(text: str) -> Iterator[Passage]:
    """Return the prose of a Markdown file; code blocks and inline code are blanked."""
    fenced = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)
    for code in (fenced, re.compile(r"^(?: {4,}|\t)\S.*$", re.M), re.compile(r"`[^`]*`")):
        text = code.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    yield Passage(1, text)


def python_passages(text: str) -> Iterator[Passage]:
    """Return the comments, docstrings and texts of a Python file, and the names of its tests."""
    yield from _comments(text)
    tree = ast.parse(text)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            docstring = id(node) in docstrings
            if docstring or re.search(r"\s", node.value.strip()):
                yield Passage(node.lineno, node.value, docstring)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield Passage(node.lineno, node.name.replace("_", " "))


def _comments(text: str) -> Iterator[Passage]:
    """Return the comments; adjacent lines are one passage."""
    start, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        row = token.start[0]
        if lines and row != start + len(lines):
            yield Passage(start, "\n".join(lines))
            lines = []
        if not lines:
            start = row
        lines.append(token.string.lstrip("#: "))
    if lines:
        yield Passage(start, "\n".join(lines))


def check_passage(path: str, passage: Passage, rules: Rules) -> Iterator[Finding]:
    """Return the findings in one passage."""
    for word, instead in rules.words.items():
        pattern = rf"\b{re.escape(word)}\b".replace(r"\ ", r"\s+")
        for match in re.finditer(pattern, passage.text, re.I):
            line = passage.line + passage.text.count("\n", 0, match.start())
            yield Finding(path, line, f'"{word}": write {instead}')
    if passage.docstring:
        for start in rules.docstring_starts:
            if re.match(rf"{re.escape(start)}\b", passage.text.lstrip()):
                yield Finding(path, passage.line, f'docstring begins with "{start}": name the noun')


def check_file(path: Path, rules: Rules) -> list[Finding]:
    """Return the findings in one file."""
    text = path.read_text()
    passages = python_passages(text) if path.suffix == ".py" else markdown_passages(text)
    name = path.relative_to(ROOT).as_posix()
    findings = {finding for passage in passages for finding in check_passage(name, passage, rules)}
    return sorted(findings, key=lambda finding: (finding.line, finding.message))


def files_to_check(rules: Rules) -> list[Path]:
    """Return the Markdown and Python files below the configured paths."""
    files: list[Path] = []
    for name in rules.paths:
        path = ROOT / name
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix in (".md", ".py"))
        elif path.exists():
            files.append(path)
    return files


def check_spelling(files: Sequence[Path]) -> list[Finding]:
    """Return the findings of codespell."""
    names = [file.relative_to(ROOT).as_posix() for file in files]
    process = subprocess.run(
        [sys.executable, "-m", "codespell_lib", *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = [re.fullmatch(r"(.+?):(\d+): (.+)", line) for line in process.stdout.splitlines()]
    findings = [Finding(line[1].removeprefix("./"), int(line[2]), line[3]) for line in lines if line]
    if process.returncode and not findings:
        raise RuntimeError(f"codespell failed with status {process.returncode}: {process.stderr.strip()}")
    return findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings; return 1 if there is one, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.style_check", description="Check spelling and style of documentation and code."
    )
    parser.add_argument("--summary", action="store_true", help="print the number of findings per package")
    options = parser.parse_args(arguments)

    rules = Rules.load(ROOT / "pyproject.toml")
    files = files_to_check(rules)
    findings = [*check_spelling(files), *(finding for file in files for finding in check_file(file, rules))]
    if options.summary:
        packages = Counter("/".join(finding.path.split("/")[:2]) for finding in findings)
        for package, count in sorted(packages.items()):
            print(f"{count:5d}  {package}")
        print(f"{len(findings):5d}  all")
    else:
        for finding in findings:
            print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
