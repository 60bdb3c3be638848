"""Tables in RouterBench's columns: ids, prompts, then `<llm>` and `<llm>|total_cost` for each LLM."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from routing.datasets.cells import read_identifiers, read_numbers, read_texts, turns_as_text
from routing.datasets.table_files import read_table
from routing.history.history import History
from routing.history.rules import (
    COST_SUFFIX,
    HistoryError,
    RowName,
    check_numbers,
    check_texts,
    named,
    row_name,
)

log = structlog.get_logger()

ID, PROMPT, TASK, QUERY = "sample_id", "prompt", "eval_name", "query"

_UNNAMED = re.compile(r"__index_level_\d+__|Unnamed: \d+")
"""Names that pandas gives to unnamed indexes and columns."""

Incomplete = Literal["error", "drop"]
"""Handling of rows with a gap: a missing id, prompt, quality or cost."""


def load_tabular(path: str | Path, incomplete: Incomplete = "error") -> History:
    """Load a history from a parquet, Arrow, JSON Lines or text file, or from a folder of them.

    Parameters
    ----------
    path : path
        File or folder of the table.
    incomplete : {"error", "drop"}
        Raise an error for a row with a gap, or drop the row.

    Raises
    ------
    HistoryError
        A column is missing or a value is wrong; the message names file, column, row, value and fix.
    """
    table, rows = read_table(path)
    types = {field.name: str(field.type) for field in table.schema}
    frame = table.to_pandas(ignore_metadata=True)
    return from_frame(frame, path, incomplete, types=types, row_name=rows.name)


def from_frame(
    frame: pd.DataFrame,
    source: str | Path,
    incomplete: Incomplete = "error",
    *,
    types: Mapping[str, str] | None = None,
    row_name: RowName = row_name,
) -> History:
    """Return the history of a table in RouterBench's columns.

    The LLMs are the columns with a second column `<llm>|total_cost`, in the order of the table; other columns
    are ignored. A column `query` has the texts to embed. A column may be a named index. Prompts that are
    lists of turns or chat messages become one text with a turn per line, also when such lists are written as
    text, as in RouterBench's own files.

    Parameters
    ----------
    frame : DataFrame
        The table.
    source : path
        Named in errors.
    incomplete : {"error", "drop"}
        Raise an error for a row with a gap, or drop the row.
    types : mapping from column to str, optional
        Types of the columns in the file, for errors.
    row_name : callable, optional
        Returns a row's name in errors, by its position from 0.

    Raises
    ------
    HistoryError
        A column is missing or a value is wrong; the message names file, column, row, value and fix.
    """
    try:
        frame = _with_index(frame)
        return _history(frame, incomplete, types or {}, row_name)
    except HistoryError as error:
        raise HistoryError(f"{source}: {error}") from None


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its named indexes as columns and with unique names without surrounding spaces."""
    frame = frame.rename(columns=lambda name: str(name).strip())
    indexes = [level for level, name in enumerate(frame.index.names) if name is not None]
    levels = {str(frame.index.names[i]).strip(): frame.index.get_level_values(i) for i in indexes}
    fresh = {name: values for name, values in levels.items() if name not in frame.columns}
    frame = frame.reset_index(drop=True)
    for place, (name, values) in enumerate(fresh.items()):
        frame.insert(place, name, pd.Series(values.tolist(), dtype=values.dtype))
    repeated = frame.columns[frame.columns.duplicated()].tolist()
    if repeated:
        raise HistoryError(f"column {repeated[0]!r} is a duplicate; rename or drop one of them")
    return frame


def _history(
    frame: pd.DataFrame, incomplete: Incomplete, types: Mapping[str, str], row_name: RowName
) -> History:
    models = _models(frame)
    for name in (ID, PROMPT):
        if name not in frame.columns:
            raise HistoryError(
                f"column {name!r} is missing; there are {named(list(frame.columns))}. Add or rename it"
            )
    costs = [name + COST_SUFFIX for name in models]
    quality, cost = _numbers(frame, models, row_name), _numbers(frame, costs, row_name)
    texts = {ID: read_identifiers(frame[ID], ID, row_name, _type_of(frame, ID, types))}
    for name in (PROMPT, QUERY):
        if name in frame.columns:
            texts[name] = read_texts(frame[name], name, row_name, _type_of(frame, name, types))
    texts[PROMPT] = _parse_turns(frame, texts[PROMPT])
    gaps = {name: np.array([text is None for text in column], bool) for name, column in texts.items()}
    for names, numbers in ((models, quality), (costs, cost)):
        gaps |= {name: np.isnan(numbers[:, place]) for place, name in enumerate(names)}
    keep = rows_without_gaps(gaps, incomplete, row_name, ID, texts[ID])
    # Tasks are only reported: a row without one is used.
    tasks = (
        read_identifiers(frame[TASK], TASK, row_name, _type_of(frame, TASK, types))
        if TASK in frame.columns
        else [None] * len(frame)
    )
    ids, prompts = _selected_texts(texts[ID], keep), _selected_texts(texts[PROMPT], keep)
    queries = _selected_texts(texts[QUERY], keep) if QUERY in texts else None
    kept_tasks = _selected_texts(tasks, keep)

    def kept_row_name(row: int) -> str:
        return row_name(int(keep[row]))

    check_texts(ids, prompts, kept_tasks, queries, kept_row_name)
    check_numbers("quality", quality[keep], 1.0, ids, models, kept_row_name)
    check_numbers("cost", cost[keep], np.inf, ids, models, kept_row_name)
    return History(ids, prompts, kept_tasks, models, quality[keep], cost[keep], queries)


def rows_without_gaps(
    gaps: Mapping[str, NDArray[np.bool_]],
    incomplete: Incomplete,
    row_name: RowName,
    id_column: str,
    ids: Sequence[str | None],
) -> NDArray[np.intp]:
    """Return the positions of the rows to use.

    Parameters
    ----------
    gaps : mapping from column to ndarray of bool, shape [rows]
        Whether each row has a gap in that column.
    incomplete : {"error", "drop"}
        As in `load_tabular`.
    row_name : callable
        As in `from_frame`.
    id_column : str
        Name of the column of ids.
    ids : sequence of str or None, length rows
        For the error.

    Returns
    -------
    ndarray of int
        In order. The number of dropped rows is logged.

    Raises
    ------
    HistoryError
        A row has a gap, and `incomplete` is not "drop".
    """
    incomplete_rows = np.logical_or.reduce(list(gaps.values()))
    if incomplete != "drop" and incomplete_rows.any():
        row = int(np.argmax(incomplete_rows))
        column = next(name for name, missing in gaps.items() if missing[row])
        raise HistoryError(
            f"column {column!r}, {row_name(row)} ({id_column} {ids[row]!r}): no value; correct "
            f"the row ({int(incomplete_rows.sum())} of {len(incomplete_rows)} rows have such a gap), or drop "
            "such rows with incomplete='drop' (`--incomplete drop` of routing fit and producers.prepare)"
        )
    if incomplete_rows.any():
        log.warning("rows_left_out", rows=int(incomplete_rows.sum()), of=len(incomplete_rows))
    return np.flatnonzero(~incomplete_rows)


def _models(frame: pd.DataFrame) -> list[str]:
    names = list(frame.columns)
    priced = {name[: -len(COST_SUFFIX)]: name for name in names if name.endswith(COST_SUFFIX)}
    if not priced:
        raise HistoryError(
            f"no column ends in {COST_SUFFIX!r}; there are {named(names)}. Give each LLM a column <llm> "
            f"with its quality in [0, 1] and <llm>{COST_SUFFIX} with its cost in USD"
        )
    for model, column in priced.items():
        if model not in names:
            raise HistoryError(
                f"column {model!r} is missing beside {column!r}; add the LLM's quality, or drop its cost"
            )
    for name in names:
        if name not in priced and _looks_like_quality(frame, name):
            raise HistoryError(
                f"column {name + COST_SUFFIX!r} is missing beside {name!r}, whose values look like an LLM's "
                "quality; add the cost in USD, or drop the column if it is no LLM's (one with | in its name "
                "is never taken for one)"
            )
    return [name for name in names if name in priced]


def _looks_like_quality(frame: pd.DataFrame, name: str) -> bool:
    """Return whether a column may be an LLM's quality: all values are in [0, 1], flags or gaps."""
    if name in (ID, PROMPT, TASK, QUERY) or "|" in name or not name or _UNNAMED.fullmatch(name):
        return False
    try:
        values = read_numbers(frame[name], name, row_name)
    except HistoryError:
        return False
    values = values[~np.isnan(values)]
    return len(values) > 0 and bool(((values >= 0) & (values <= 1)).all())


def _numbers(frame: pd.DataFrame, names: Sequence[str], row_name: RowName) -> NDArray[np.float64]:
    return np.stack([read_numbers(frame[name], name, row_name) for name in names], axis=1)


def _parse_turns(frame: pd.DataFrame, prompts: list[str | None]) -> list[str | None]:
    """Return the prompts; a list written as text becomes its turns."""
    # Columns identify RouterBench's own files. In other files a prompt may begin with a bracket for another
    # reason, so every row must be such a list.
    own = any(name.endswith("|model_response") for name in frame.columns)
    written = [isinstance(value, str) for value in frame[PROMPT].tolist()]
    parsed = list(prompts)
    for row, prompt in enumerate(prompts):
        if not written[row] or prompt is None:
            continue
        text = turns_as_text(prompt)
        if text is None and not own:
            return prompts
        parsed[row] = prompt if text is None else text
    return parsed


def _type_of(frame: pd.DataFrame, name: str, types: Mapping[str, str]) -> str:
    return types.get(name, str(frame[name].dtype))


def _selected_texts(texts: Sequence[str | None], keep: NDArray[np.intp]) -> list[str]:
    return [texts[row] or "" for row in keep]
