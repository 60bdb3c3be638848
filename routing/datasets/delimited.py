"""Text tables: a header, and values separated by commas, semicolons, tabs or bars."""

from __future__ import annotations

import codecs
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from routing.datasets.row_numbers import FileRows
from routing.history.rules import COST_SUFFIX, RESERVED, HistoryError

SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?$', re.IGNORECASE)  # the first line of some Excel exports
_PROMPT_WITHIN = re.compile(r"\wprompt\W|\Wprompt\W")  # names that another separator stands between


@dataclass(frozen=True)
class Layout:
    """The layout of a text table.

    Parameters
    ----------
    separator : str
        One of `SEPARATORS`.
    names : tuple of str
        Names of the columns, without spaces around them; empty for a column without a name.
    spaced : bool
        Whether a space follows each separator and is not part of the value.
    header : int
        Number of the header's row, from 1.
    """

    separator: str
    names: tuple[str, ...]
    spaced: bool
    header: int


def read_layout(file: Path) -> Layout:
    """Find the separator and the header; the right separator is the one that gives known column names.

    Raises
    ------
    HistoryError
        The header is missing or not text.
    """
    with _errors_with_file(file):
        candidates: list[Layout] = []
        problem: csv.Error | None = None
        for separator in SEPARATORS:
            try:
                layout = _layout(file, separator)
            except csv.Error as error:
                problem = problem or error
            else:
                candidates += [] if layout is None else [layout]
        if problem is not None and not candidates:
            raise problem
        if not candidates:
            raise HistoryError("not readable as a table: no header; write the columns' names into row 1")
        best = max(candidates, key=lambda layout: (_count_known_columns(layout.names), len(layout.names)))
        if not set(best.names) & set(RESERVED) and any(_PROMPT_WITHIN.search(name) for name in best.names):
            raise HistoryError(
                f"not readable as a table: {best.names[0]!r} is not a column's name; separate names and "
                "values by commas"
            )
        return best


def read_delimited(file: Path) -> tuple[pa.Table, FileRows]:
    """Read a text table. Values stay texts; an empty value is a gap.

    Columns without a name are ignored, such as the row numbers that pandas writes. Empty values beyond the
    last column are ignored too: some programs end each row with a separator.

    Raises
    ------
    HistoryError
        A row has more or fewer values than the header has names, a quote is not closed, or the file is not
        text.
    """
    layout = read_layout(file)
    width = len(layout.names)
    rows: list[list[str]] = []
    numbers: list[int] = []
    lines: list[int] = []
    with _errors_with_file(file):
        for number, line, values in _records(file, layout.separator, layout.spaced):
            if number <= layout.header or not any(value.strip() for value in values):
                continue
            if len(values) < width or any(value.strip() for value in values[width:]):
                position = FileRows(1, [number], [line]).name(0)
                raise HistoryError(
                    f"{position} has {len(values)} values, the header has {width} names; "
                    f"put a text with {_SPELLED[layout.separator]} or line breaks in it into double quotes, "
                    "and name every column"
                )
            rows.append(values[:width])
            numbers.append(number)
            lines.append(line)
    columns = list(zip(*rows, strict=True)) if rows else [()] * width
    named_columns = [position for position, name in enumerate(layout.names) if name]
    arrays = [
        pa.array([value or None for value in columns[position]], pa.large_string())
        for position in named_columns
    ]
    table = pa.Table.from_arrays(arrays, names=[layout.names[position] for position in named_columns])
    return table, FileRows(len(rows), numbers, lines)


_SPELLED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def _layout(file: Path, separator: str) -> Layout | None:
    """Return the layout for one separator; None if the file then has no header."""
    header = _header(file, separator, spaced=False)
    if header is None:
        return None
    number, values = header
    others = [value for value in values[1:] if value]
    spaced = bool(others) and all(value.startswith(" ") for value in others)
    if spaced:
        # A quote after a space begins a value only if the reader skips the space.
        number, values = _header(file, separator, spaced=True) or header
    names = [value.strip() for value in values]
    while len(names) > 1 and not names[-1]:
        names.pop()
    return Layout(separator, tuple(_rejoined(names) if separator == "|" else names), spaced, number)


def _header(file: Path, separator: str, spaced: bool) -> tuple[int, list[str]] | None:
    for number, _, values in _records(file, separator, spaced):
        mark = _SEPARATOR_LINE.match(separator.join(values).rstrip()) if number == 1 else None
        if mark is not None and mark[1] != separator:
            return None
        if mark is None and any(value.strip() for value in values):
            return number, values
    return None


def _rejoined(names: Sequence[str]) -> list[str]:
    """Return the names with <llm>|total_cost joined again, which unquoted bars separated."""
    joined: list[str] = []
    for name in names:
        if joined and f"|{name}" == COST_SUFFIX:
            joined[-1] += COST_SUFFIX
        else:
            joined.append(name)
    return joined


def _count_known_columns(names: Sequence[str]) -> int:
    return sum(name in RESERVED or name.endswith(COST_SUFFIX) for name in names)


def _records(file: Path, separator: str, spaced: bool) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the number, the first line and the values of each record; both count from 1."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with open(file, encoding=_encoding(file), newline="") as opened:
            reader = csv.reader(opened, delimiter=separator, skipinitialspace=spaced, strict=True)
            number, line = 1, 1
            try:
                for values in reader:
                    yield number, line, values
                    number, line = number + 1, reader.line_num + 1
            except csv.Error as error:
                raise csv.Error(f"{FileRows(1, [number], [line]).name(0)}: {error}") from None
    finally:
        csv.field_size_limit(limit)


def _encoding(file: Path) -> str:
    with open(file, "rb") as opened:
        start = opened.read(4096)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in start:
        raise HistoryError("not readable as a table: neither text nor a form of table that is known")
    return "utf-8-sig"


@contextmanager
def _errors_with_file(file: Path) -> Iterator[None]:
    try:
        yield
    except HistoryError as error:
        raise HistoryError(f"{file}: {error}") from None
    except csv.Error as error:
        raise HistoryError(
            f"{file}: not readable as a table ({error}); close every double quote, and write one within a "
            "text twice"
        ) from None
    except UnicodeDecodeError:
        raise HistoryError(
            f"{file}: not readable as a table: {_undecodable(file)} is not UTF-8; save the file as UTF-8"
        ) from None


def _undecodable(file: Path) -> str:
    with open(file, "rb") as opened:
        for number, line in enumerate(opened, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"byte {line[error.start : error.start + 1]!r} on line {number}"
    return "its text"
