"""Parquet and CSV in RouterBench's columns: ids, prompts, then `<llm>` and `<llm>|total_cost` for an LLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from routing.history import COST_SUFFIX, History, HistoryError

ID, PROMPT, TASK, QUERY = "sample_id", "prompt", "eval_name", "query"


def load_parquet(path: str | Path) -> History:
    """A history out of a parquet file.

    Raises
    ------
    HistoryError
        A column is missing or a value is wrong; the message names file, column, row, value and fix.
    """
    return from_frame(pd.read_parquet(path), path)


def load_csv(path: str | Path) -> History:
    """A history out of a CSV file with a header; errors as for `load_parquet`."""
    texts = dict.fromkeys((ID, PROMPT, TASK, QUERY), str)
    return from_frame(pd.read_csv(path, dtype=texts), path)


def from_frame(frame: pd.DataFrame, source: str | Path = "data") -> History:
    """A history out of a table in RouterBench's columns.

    The LLMs are the columns that have a `<llm>|total_cost` beside them, in the order of the table; other
    columns are left out. Where there is a column `query`, it is the text to embed.

    Parameters
    ----------
    frame : DataFrame
        The table.
    source : path, optional
        Named in errors.

    Raises
    ------
    HistoryError
        A column is missing or a value is wrong; the message names file, column, row, value and fix.
    """
    try:
        return _read(frame)
    except HistoryError as error:
        raise HistoryError(f"{source}: {error}") from None


def to_frame(history: History) -> pd.DataFrame:
    """The table that `from_frame` reads."""
    columns: dict[str, object] = {
        ID: list(history.ids),
        PROMPT: list(history.prompts),
        TASK: list(history.tasks),
    }
    if history.embed_texts is not None:
        columns[QUERY] = list(history.embed_texts)
    for i, model in enumerate(history.models):
        columns[model] = history.quality[:, i]
        columns[model + COST_SUFFIX] = history.cost[:, i]
    return pd.DataFrame(columns)


def _read(frame: pd.DataFrame) -> History:
    models = [name for name in frame.columns if name + COST_SUFFIX in frame.columns]
    orphans = [
        name[: -len(COST_SUFFIX)]
        for name in frame.columns
        if name.endswith(COST_SUFFIX) and name[: -len(COST_SUFFIX)] not in frame.columns
    ]
    if orphans:
        raise HistoryError(
            f"column {orphans[0]!r} is missing beside {orphans[0] + COST_SUFFIX!r}; "
            "add the LLM's quality in [0, 1], or drop its cost"
        )
    for name in (ID, PROMPT):
        if name not in frame.columns:
            raise HistoryError(f"column {name!r} is missing; the file has {_shown(frame)}. Add or rename it")
    if not models:
        raise HistoryError(
            f"no column ends in {COST_SUFFIX!r}; the file has {_shown(frame)}. "
            f"Give each LLM a column <llm> with its quality and <llm>{COST_SUFFIX} with its cost in USD"
        )
    _check_costless(frame, models)
    return History(
        ids=_texts(frame, ID),
        prompts=_texts(frame, PROMPT),
        tasks=_texts(frame, TASK) if TASK in frame.columns else [""] * len(frame),
        models=models,
        quality=_numbers(frame, models),
        cost=_numbers(frame, [name + COST_SUFFIX for name in models]),
        embed_texts=_texts(frame, QUERY) if QUERY in frame.columns else None,
    )


def _check_costless(frame: pd.DataFrame, models: list[str]) -> None:
    """A numeric column after the first LLM that has no cost beside it is an LLM whose cost was forgotten."""
    known = {ID, PROMPT, TASK, QUERY, *models, *(name + COST_SUFFIX for name in models)}
    first = list(frame.columns).index(models[0])
    for name in list(frame.columns)[first:]:
        if name not in known and "|" not in name and pd.api.types.is_float_dtype(frame[name].dtype):
            raise HistoryError(
                f"column {name + COST_SUFFIX!r} is missing beside {name!r}; add the LLM's cost in USD, "
                "or drop the column if it is not an LLM"
            )


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    column = frame[name]
    missing = column.isna().to_numpy()
    if missing.any():
        raise HistoryError(f"column {name!r}, row {int(np.argmax(missing))}: no value; give a text")
    return [value if isinstance(value, str) else str(value) for value in column.tolist()]


def _numbers(frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    columns = []
    for name in names:
        numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.isnan(numbers)
        if bad.any():
            row = int(np.argmax(bad))
            raise HistoryError(
                f"column {name!r}, row {row}: {frame[name].iloc[row]!r} is not a number; "
                f"mend or drop the row ({int(bad.sum())} rows are wrong in this column)"
            )
        columns.append(numbers)
    return np.stack(columns, axis=1)


def _shown(frame: pd.DataFrame, most: int = 8) -> str:
    names = [str(name) for name in frame.columns]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
