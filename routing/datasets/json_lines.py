"""JSON Lines: an object a line, a value a column; and the same objects in one JSON array."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import pyarrow as pa

from routing.datasets.cells import joined_turns
from routing.datasets.row_numbers import FileRows
from routing.history.rules import RESERVED, HistoryError

PROMPT, QUERY = "prompt", "query"


def read_json_lines(file: Path) -> tuple[pa.Table, FileRows]:
    """Read JSON Lines or an array of objects; a key that an object lacks is a gap.

    Raises
    ------
    HistoryError
        A line is not an object, or has a key twice.
    """
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    try:
        for number, row in _objects(file):
            if not isinstance(row, dict):
                raise HistoryError(
                    f"row {number}: {type(row).__name__}, not an object; write one JSON object a line"
                )
            rows.append(row)
            numbers.append(number)
    except UnicodeDecodeError as error:
        raise HistoryError(
            f"{file}: not readable as a table: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from None
    except HistoryError as error:
        raise HistoryError(f"{file}: {error}") from None
    names = list(dict.fromkeys(name for row in rows for name in row))
    file_rows = FileRows(len(rows), numbers)
    try:
        arrays = [_array(name, [row.get(name) for row in rows], file_rows) for name in names]
    except HistoryError as error:
        raise HistoryError(f"{file}: {error}") from None
    return pa.Table.from_arrays(arrays, names=names), file_rows


def _objects(file: Path) -> Iterator[tuple[int, Any]]:
    with open(file, encoding="utf-8-sig") as opened:
        text = opened.read()
    if text.lstrip().startswith("["):
        yield from enumerate(_parse_json(text, "the array"), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _parse_json(line, f"row {number}")


def _parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_fields)
    except HistoryError as error:
        raise HistoryError(f"{place}: {error}") from None
    except (ValueError, RecursionError) as error:
        # The decoder counts lines from the beginning of this text, not of the file.
        problem = f"{error.msg}, character {error.pos + 1}" if isinstance(error, JSONDecodeError) else error
        raise HistoryError(f"{place}: not JSON ({problem}); write one JSON object a line") from None


def _unique_fields(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise HistoryError(f"column {name!r} is a duplicate; rename or drop one of them")
        fields[name] = value
    return fields


def _array(name: str, values: Sequence[Any], rows: FileRows) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        # Types differ between rows, or a number exceeds 64 bits: texts keep both.
        texts = [_as_text(name, value, rows.name(row)) for row, value in enumerate(values)]
        return pa.array(texts, pa.large_string())


def _as_text(name: str, value: Any, row: str) -> str | None:
    """Return a value as text, for a column whose types differ."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and (text := joined_turns(value)) is not None:
        return text
    if name in (PROMPT, QUERY) or (name in RESERVED and isinstance(value, list | dict)):
        raise HistoryError(
            f"column {name!r} is of several types; {row} has a {type(value).__name__}: give a text, or a "
            "list of turns or chat messages with text"
        )
    return json.dumps(value)
