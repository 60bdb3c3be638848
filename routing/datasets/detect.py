"""Which format a data set is in."""

from __future__ import annotations

from pathlib import Path

from routing.datasets.tabular import load_csv, load_parquet
from routing.history import History, HistoryError


def load_dataset(path: str | Path) -> History:
    """Load a data set of answered queries, whatever its format.

    Parameters
    ----------
    path : path
        A file.

    Raises
    ------
    FileNotFoundError
        There is nothing at `path`.
    HistoryError
        The format is unknown, or the data is wrong in it.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such data set")
    if file.suffix == ".parquet":
        return load_parquet(file)
    if file.suffix == ".csv":
        return load_csv(file)
    raise HistoryError(f"{file}: format unknown; give a .parquet or .csv file in RouterBench's columns")
