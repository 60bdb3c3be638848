"""Tables in RouterBench's columns: ids, prompts, then `<llm>` and `<llm>|total_cost` for each LLM."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from routing.datasets.tables import read_table
from routing.history import History
from routing.history_rules import COST_SUFFIX, HistoryError, named

ID, PROMPT, TASK, QUERY = "sample_id", "prompt", "eval_name", "query"

_TRUTH = {"True": 1.0, "true": 1.0, "TRUE": 1.0, "False": 0.0, "false": 0.0, "FALSE": 0.0}
"""What a CSV has for a quality of right or wrong."""

Incomplete = Literal["refuse", "drop"]
"""What to do with rows that have no quality or cost for some LLM."""


def load_tabular(path: str | Path, incomplete: Incomplete = "refuse") -> History:
    """A history out of a parquet, CSV or Arrow file, or a folder of them.

    Parameters
    ----------
    path : path
        Where the table is.
    incomplete : {"refuse", "drop"}
        Whether a row without a value for some LLM is an error or left out.

    Raises
    ------
    HistoryError
        A column is missing or a value is wrong; the message names file, column, row, value and fix.
    """
    return from_frame(read_table(path).to_pandas(), path, incomplete)


def from_frame(frame: pd.DataFrame, source: str | Path, incomplete: Incomplete = "refuse") -> History:
    """A history out of a table in RouterBench's columns.

    The LLMs are the columns that have a `<llm>|total_cost` beside them, in the order of the table; other
    columns are left out. Where there is a column `query`, it is the text to embed. Prompts that are Python
    lists of turns written as text, as in RouterBench's own files, become the turns, a line apart.

    Parameters
    ----------
    frame : DataFrame
        The table.
    source : path
        Named in errors.
    incomplete : {"refuse", "drop"}
        Whether a row without a value for some LLM is an error or left out.

    Raises
    ------
    HistoryError
        A column is missing or a value is wrong; the message names file, column, row, value and fix.
    """
    try:
        return _history(frame, incomplete)
    except HistoryError as error:
        raise HistoryError(f"{source}: {error}") from None


def turns_as_text(prompt: str) -> str | None:
    """The turns of a prompt that is a Python list of texts, a line apart; None where it is not such a list.

    Read as a literal, never run.

    Examples
    --------
    >>> turns_as_text("['What is 2 + 2?', 'And times 3?']")
    'What is 2 + 2?\\nAnd times 3?'
    >>> turns_as_text("[1, 2, 3] sorted?") is None
    True
    """
    if not (prompt.startswith("[") and prompt.rstrip().endswith("]")):
        return None
    try:
        turns = ast.literal_eval(prompt)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        return None
    return "\n".join(turns)


def _history(frame: pd.DataFrame, incomplete: Incomplete) -> History:
    models = _models(frame)
    for name in (ID, PROMPT):
        if name not in frame.columns:
            raise HistoryError(
                f"column {name!r} is missing; there are {named(list(frame.columns))}. Add or rename it"
            )
    costs = [name + COST_SUFFIX for name in models]
    quality, cost = _numbers(frame, models), _numbers(frame, costs)
    if incomplete == "drop":
        whole = np.flatnonzero(~(np.isnan(quality).any(axis=1) | np.isnan(cost).any(axis=1)))
        frame, quality, cost = frame.iloc[whole], quality[whole], cost[whole]
    else:
        for numbers, names in ((quality, models), (cost, costs)):
            _refuse_missing(frame, numbers, names)
    return History(
        ids=_texts(frame, ID),
        prompts=_prompts(frame),
        tasks=_texts(frame, TASK) if TASK in frame.columns else [""] * len(frame),
        models=models,
        quality=quality,
        cost=cost,
        embed_texts=_texts(frame, QUERY) if QUERY in frame.columns else None,
    )


def _models(frame: pd.DataFrame) -> list[str]:
    names = [str(name) for name in frame.columns]
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
    """Whether a column may be an LLM's: all that is in it is in [0, 1]. Flags and gaps are so, too."""
    if name in (ID, PROMPT, TASK, QUERY) or "|" in name:
        return False
    try:
        values = _column(frame, name)
    except HistoryError:
        return False
    values = values[~np.isnan(values)]
    return len(values) > 0 and bool(((values >= 0) & (values <= 1)).all())


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    missing = frame[name].isna().to_numpy()
    if missing.any():
        raise HistoryError(f"column {name!r}, row {int(np.argmax(missing))}: no value; give a text")
    return [value if isinstance(value, str) else str(value) for value in frame[name].tolist()]


def _prompts(frame: pd.DataFrame) -> list[str]:
    prompts = _texts(frame, PROMPT)
    # RouterBench's own files are told by their columns; in any other, a prompt may well begin with a bracket
    # on its own account, so there it must be so in every row
    own = any(name.endswith("|model_response") for name in frame.columns)
    parsed: list[str] = []
    for prompt in prompts:
        text = turns_as_text(prompt)
        if text is None and not own:
            return prompts
        parsed.append(prompt if text is None else text)
    return parsed


def _numbers(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([_column(frame, name) for name in names], axis=1)


def _column(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    column = frame[name]
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = np.empty(len(column))
    for row, value in enumerate(column.tolist()):
        try:
            numbers[row] = np.nan if value is None or value == "" else float(_TRUTH.get(value, value))
        except (TypeError, ValueError):
            raise HistoryError(
                f"column {name!r}, row {row}: {value!r} is not a number; mend or drop the row"
            ) from None
    return numbers


def _refuse_missing(frame: pd.DataFrame, numbers: NDArray[np.float64], names: Sequence[str]) -> None:
    missing = np.isnan(numbers)
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise HistoryError(
            f"column {names[column]!r}, row {row} ({ID} {frame[ID].iloc[row]!r}): no value (NaN); "
            f"mend or drop the row ({int(missing.any(axis=1).sum())} rows have such a gap), "
            "or load with incomplete='drop'"
        )
