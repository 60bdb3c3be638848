"""RouterBench's own file: a pickled DataFrame, read without running its code."""

from __future__ import annotations

from pathlib import Path

from routing.datasets.routerbench_table import Incomplete, from_frame
from routing.datasets.safe_pickle import read_pickled_frame
from routing.history.history import History


def load_routerbench(path: str | Path, incomplete: Incomplete = "error") -> History:
    """Load `routerbench_0shot.pkl` or `routerbench_5shot.pkl` (data set withmartian/routerbench).

    The columns are those of `from_frame`; answers and the oracle's choice are left out.

    Parameters
    ----------
    path : path
        The file.
    incomplete : {"error", "drop"}
        Raise an error for a row with a gap, or drop the row; the 5-shot file has gaps.

    Raises
    ------
    HistoryError
        The pickle wants more than to be a table, or the table is wrong.
    """
    return from_frame(read_pickled_frame(path), path, incomplete)
