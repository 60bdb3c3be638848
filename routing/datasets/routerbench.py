"""RouterBench's own file: a pickled DataFrame, read without running what is in it."""

from __future__ import annotations

from pathlib import Path

from routing.datasets.pickled import read_pickled_frame
from routing.datasets.tabular import Incomplete, from_frame
from routing.history import History


def load_routerbench(path: str | Path, incomplete: Incomplete = "refuse") -> History:
    """The history in `routerbench_0shot.pkl` or `routerbench_5shot.pkl` (data set withmartian/routerbench).

    The columns are those of `from_frame`; answers and the oracle's choice are left out.

    Parameters
    ----------
    path : path
        The file.
    incomplete : {"refuse", "drop"}
        Whether a row without a value for some LLM is an error or left out; the 5-shot file has some.

    Raises
    ------
    HistoryError
        The pickle wants more than to be a table, or the table is wrong.
    """
    return from_frame(read_pickled_frame(path), path, incomplete)
