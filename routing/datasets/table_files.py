"""Tables on disk: parquet, Arrow, separated text or JSON Lines, one file or a folder of splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from routing.datasets.archives import plain_file
from routing.datasets.delimited import read_delimited, read_layout
from routing.datasets.json_lines import read_json_lines
from routing.datasets.row_numbers import FileRows, TableRows
from routing.history.rules import HistoryError

T = TypeVar("T")

SPLITS = ("train", "validation", "test")
"""Order of the parts of a data set that was published in splits; others follow by name."""


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> tuple[pa.Table, TableRows]:
    """Read the table in a file or a folder, in the order of its splits and files.

    Parameters
    ----------
    path : path
        A parquet, Arrow, JSON Lines or text file, compressed or not, or a folder with parquet or Arrow files
        in it or below.
    columns : sequence of str, optional
        Only these; `a.b` is field b of the struct a (parquet only).

    Returns
    -------
    table : Table
    rows : TableRows
        Names of the table's rows, for errors.

    Raises
    ------
    HistoryError
        The file is missing, unreadable or has a duplicate column, or the files' columns differ.
    """
    files = table_files(path)
    parts = [_read(file, columns) for file in files]
    tables, rows = [table for table, _ in parts], [rows for _, rows in parts]
    if len(files) > 1:
        rows = [replace(part, file=file.name) for part, file in zip(rows, files, strict=True)]
    try:
        return pa.concat_tables(tables, promote_options="permissive"), TableRows(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise HistoryError(f"{path}: its files have different columns ({error}); give one of them") from None


def read_schema(path: str | Path) -> pa.Schema:
    """Read the columns of a table, without its rows if the container allows that."""
    first = table_files(path)[0]
    with plain_file(first) as file:
        kind = _kind(file)
        if kind == "parquet":
            schema = _guarded(file, lambda: pq.read_schema(file))
            index = _range_index(schema)
            return schema if index is None else schema.insert(0, pa.field(index[0], pa.int64()))
        if kind == "text":
            names = read_layout(file).names
            return pa.schema([pa.field(name, pa.large_string()) for name in names if name])
        return _read_plain(file, None)[0].schema


def split_of(file: Path) -> str:
    """Return the split of a file by its own or its folder's name; empty if there is none."""
    for name in (file.name, file.parent.name):
        for split in SPLITS:
            if name == split or name.startswith((f"{split}-", f"{split}.", f"{split}_")):
                return split
    return ""


def table_files(path: str | Path) -> list[Path]:
    """Return the files of a table, with splits in their usual order.

    Raises
    ------
    HistoryError
        There are none.
    """
    place = Path(path)
    if not place.is_dir():
        return [place]
    files = [file for kind in ("*.parquet", "*.arrow") for file in place.rglob(kind)]
    if not files:
        raise HistoryError(f"{path}: no parquet or Arrow file in it; give the data set's folder or file")
    ranks = {split: i for i, split in enumerate(SPLITS)}
    return sorted(files, key=lambda file: (ranks.get(split_of(file), len(ranks)), str(file)))


def _kind(file: Path) -> str:
    with open(file, "rb") as opened:
        start = opened.read(4096)
    if start[:4] == b"PAR1":
        return "parquet"
    if start[:6] == b"ARROW1":
        return "arrow file"
    if start[:4] == b"\xff\xff\xff\xff":
        return "arrow stream"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return "json lines"
    return "text"


def _read(path: Path, columns: Sequence[str] | None) -> tuple[pa.Table, FileRows]:
    with plain_file(path) as file:
        return _read_plain(file, columns)


def _read_plain(file: Path, columns: Sequence[str] | None) -> tuple[pa.Table, FileRows]:
    kind = _kind(file)
    if kind == "parquet":
        table = _guarded(file, lambda: pq.ParquetFile(file).read(columns=columns))
        rows = FileRows(len(table))
    elif kind == "arrow file":
        table = _guarded(file, lambda: pa.ipc.open_file(file).read_all())
        rows = FileRows(len(table))
    elif kind == "arrow stream":
        table = _guarded(file, lambda: pa.ipc.open_stream(file).read_all())
        rows = FileRows(len(table))
    else:
        table, rows = read_json_lines(file) if kind == "json lines" else read_delimited(file)
    _refuse_duplicates(file, table.column_names)
    index = _range_index(table.schema)
    if index is not None and (columns is None or index[0] in columns):
        name, start, step = index
        values = range(start, start + step * len(table), step)
        table = table.add_column(0, name, pa.array(values, pa.int64()))
    # The metadata of pandas is about its index and differs between files.
    table = table.replace_schema_metadata(None)
    if columns is None or kind == "parquet":
        return table, rows
    return table.select(list(dict.fromkeys(name.split(".")[0] for name in columns))), rows


def _range_index(schema: pa.Schema) -> tuple[str, int, int] | None:
    """Return name, start and step of an index that only counts the rows: pandas does not write its values."""
    for index in (schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(index, dict) and index.get("kind") == "range" and index.get("name"):
            name = str(index["name"])
            return None if name in schema.names else (name, int(index["start"]), int(index["step"]))
    return None


def _refuse_duplicates(file: Path, names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise HistoryError(
                f"{file}: column {name!r} is a duplicate, the first is column {names.index(name) + 1} of "
                f"{len(names)}; rename or drop one of them"
            )


def _guarded(file: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise HistoryError(f"{file}: not readable as a table ({error}); write it again") from None
