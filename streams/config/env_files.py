"""Files of variables: read whole or refused with a line number, written so that they read back the same."""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import Binding, parse_stream
from dotenv.variables import parse_variables

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

SHOWN_PROBLEMS = 5


def read_variables(path: Path) -> dict[str, str]:
    """Read a file of variables, each line `NAME=value`.

    As in a shell, `${NAME}` is replaced unless the value is in single quotes.

    Raises
    ------
    ValueError
        The file has no variables or is not text, or with the lines that cannot be read as variables.
    OSError
        The file cannot be opened.
    """
    text = _decoded(path)
    bindings = list(parse_stream(io.StringIO(text, newline="")))
    if problems := [problem for binding in bindings if (problem := _problem(binding))]:
        raise ValueError("; ".join(f"{path}, {problem}" for problem in problems[:SHOWN_PROBLEMS]))
    variables: dict[str, str] = {}
    for binding in bindings:
        if binding.key is None or binding.value is None:
            continue
        atoms = [] if _is_literal(binding) else parse_variables(binding.value)
        known = {**os.environ, **variables}
        variables[binding.key] = "".join(atom.resolve(known) for atom in atoms) if atoms else binding.value
    if not variables:
        raise ValueError(f"{path}: has no variables; write NAME=value")
    return variables


def format_variables(variables: Mapping[str, str]) -> str:
    """Return the text of a file of variables.

    Examples
    --------
    >>> print(format_variables({"PORT_HISTORY": "it's here"}), end="")
    PORT_HISTORY='it\\'s here'
    """
    lines = []
    for name, value in variables.items():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"{name}='{escaped}'\n")
    return "".join(lines)


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
        if "\0" in text:
            raise ValueError(f"{path}: has a zero byte, so it is not UTF-8 text; convert it to UTF-8")
        return text
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: is not {encoding} text; convert it to UTF-8") from None


def _problem(binding: Binding) -> str | None:
    """Describe a part of the file that is not a variable, with the number of its line."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    line = binding.original.line + len(re.findall(r"\r\n|\r|\n", blank))
    # names only: a value may be a secret
    if binding.error:
        return f"line {line}: cannot be read; write NAME='value', and \\' for a quote within the value"
    if binding.key is not None and binding.value is None and not text.lstrip().startswith("export"):
        return f"line {line}: has no value; write NAME=value"
    return None


def _is_literal(binding: Binding) -> bool:
    return binding.original.string.partition("=")[2].lstrip().startswith("'")


def set_variables(variables: Mapping[str, str]) -> None:
    """Set the variables that the environment does not have yet."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)
