"""Tables on disk in whatever container: parquet, CSV or Arrow, one file or a folder of splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from routing.history_rules import HistoryError

T = TypeVar("T")

SPLITS = ("train", "validation", "test")
"""Order of the parts of a data set that was published in splits; others follow by name."""


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a file or a folder, in the order of its splits and files.

    Parameters
    ----------
    path : path
        A .parquet, .csv or .arrow file, or a folder with parquet or Arrow files in it or below.
    columns : sequence of str, optional
        Only these; `a.b` is field b of the struct a (parquet only).

    Raises
    ------
    HistoryError
        No such file is there, one cannot be read, or their columns differ.
    """
    parts = [_read(file, columns) for file in table_files(path)]
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise HistoryError(f"{path}: its files have different columns ({error}); give one of them") from None


def read_schema(path: str | Path) -> pa.Schema:
    """The columns of a table, without its rows where the container allows that."""
    first = table_files(path)[0]
    if _kind(first) == "parquet":
        return _guarded(first, lambda: pq.read_schema(first))
    return _read(first, None).schema


def split_of(file: Path) -> str:
    """The split that a file is of, by its name or its folder's; empty where it is of none."""
    for name in (file.name, file.parent.name):
        for split in SPLITS:
            if name == split or name.startswith((f"{split}-", f"{split}.", f"{split}_")):
                return split
    return ""


def table_files(path: str | Path) -> list[Path]:
    """The files of a table, splits in their usual order.

    Raises
    ------
    HistoryError
        There are none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    files = [file for kind in ("*.parquet", "*.arrow") for file in place.rglob(kind)]
    if not files:
        raise HistoryError(f"{path}: no parquet or Arrow file in it; give the data set's folder or file")
    ranks = {split: i for i, split in enumerate(SPLITS)}
    return sorted(files, key=lambda file: (ranks.get(split_of(file), len(ranks)), str(file)))


def _kind(file: Path) -> str:
    with open(file, "rb") as opened:
        start = opened.read(6)
    if start[:4] == b"PAR1":
        return "parquet"
    if start == b"ARROW1":
        return "arrow file"
    if start[:4] == b"\xff\xff\xff\xff":
        return "arrow stream"
    return "csv"


def _read(file: Path, columns: Sequence[str] | None) -> pa.Table:
    kind = _kind(file)
    if kind == "parquet":
        return _guarded(file, lambda: pq.ParquetFile(file).read(columns=columns))
    if kind == "arrow file":
        table = _guarded(file, lambda: pa.ipc.open_file(file).read_all())
    elif kind == "arrow stream":
        table = _guarded(file, lambda: pa.ipc.open_stream(file).read_all())
    else:
        table = _guarded(file, lambda: _read_csv(file))
    if columns is None:
        return table
    return table.select(list(dict.fromkeys(name.split(".")[0] for name in columns)))


def _read_csv(file: Path) -> pa.Table:
    # all as texts: "NA" is a prompt and "007" an id; numbers are read from texts where numbers are expected
    return pa.Table.from_pandas(pd.read_csv(file, dtype=str, na_filter=False), preserve_index=False)


def _guarded(file: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (pa.ArrowException, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise HistoryError(f"{file}: not readable as a table ({error}); write it again") from None
