"""Texts and numbers of a table's cells, and the ways in which tables write a gap."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from routing.history.rules import HistoryError, RowName

_GAPS = frozenset(
    {
        "",
        "na",
        "n/a",
        "#n/a",
        "#n/a n/a",
        "#na",
        "<na>",
        "none",
        "null",
        "nan",
        "-nan",
        "nat",
        "1.#ind",
        "-1.#ind",
        "1.#qnan",
        "-1.#qnan",
    }
)
"""Texts for a missing number, in lower case."""

_TRUTH = {"true": 1.0, "false": 0.0}
_IDENTIFIERS = (bool, int, float, np.integer, np.floating, Decimal, date, UUID)
_ROLE_AND_TEXT = (("role", "content"), ("from", "value"))  # of chat messages: OpenAI's keys, and ShareGPT's


def read_numbers(column: pd.Series, name: str, row_name: RowName) -> NDArray[np.float64]:
    """Return the numbers of a column; NaN for a gap.

    Raises
    ------
    HistoryError
        A value is not a number, true, false or a gap.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = np.empty(len(column))
    for row, value in enumerate(column.tolist()):
        try:
            numbers[row] = np.nan if _is_gap(value) else _number(value)
        except (TypeError, ValueError):
            raise HistoryError(
                f"column {name!r}, {row_name(row)}: {value!r} is not a number; correct or drop the row"
                + (", and write decimals with a point" if isinstance(value, str) and "," in value else "")
            ) from None
    return numbers


def read_texts(column: pd.Series, name: str, row_name: RowName, kind: str) -> list[str | None]:
    """Return the texts of a column of prompts; None for a gap.

    A list of turns or chat messages becomes one text with a turn per line. Bytes are read as UTF-8.

    Parameters
    ----------
    column : Series
    name : str
        The column's name, for errors.
    row_name : callable
        As `RowName`.
    kind : str
        The type of the column in its file, for errors.

    Raises
    ------
    HistoryError
        A value is of another type.
    """
    return [_text(value, name, row_name, row, kind) for row, value in enumerate(column.tolist())]


def read_identifiers(column: pd.Series, name: str, row_name: RowName, kind: str) -> list[str | None]:
    """Return the texts of a column of ids or tasks; numbers, dates and UUIDs are valid too.

    Otherwise like `read_texts`.

    Raises
    ------
    HistoryError
        A value is of another type.
    """
    texts: list[str | None] = []
    for row, value in enumerate(column.tolist()):
        if isinstance(value, str) or (isinstance(value, _IDENTIFIERS) and not _is_missing(value)):
            texts.append(str(value))
        elif isinstance(value, list | tuple | np.ndarray | Mapping):
            raise _wrong_type(name, row_name(row), kind, value, "give one text or number per row")
        else:
            texts.append(_text(value, name, row_name, row, kind))
    return texts


def turns_as_text(prompt: str) -> str | None:
    """Return one turn per line of a prompt that is a list written as text; None if it is no list.

    The list may be written by Python, JSON or numpy and has texts or chat messages. It is parsed as a literal
    and never run.

    Examples
    --------
    >>> turns_as_text("['What is 2 + 2?', 'And times 3?']")
    'What is 2 + 2?\\nAnd times 3?'
    >>> turns_as_text("['What is 2 + 2?' 'And times 3?']")
    'What is 2 + 2?\\nAnd times 3?'
    >>> turns_as_text("[1, 2, 3] sorted?") is None
    True
    """
    if not (prompt.startswith("[") and prompt.rstrip().endswith("]")):
        return None
    try:
        turns = json.loads(prompt)
    except (ValueError, RecursionError):
        try:
            turns = ast.literal_eval(prompt)
            strings, others = _tokens(prompt)
        except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
            return None
        if _are_texts(turns) and len(strings) != len(turns):
            # Python joins adjacent texts. numpy writes arrays so, without commas.
            turns = None if "," in others else [ast.literal_eval(text) for text in strings]
    return joined_turns(turns) if isinstance(turns, list) else None


def _are_texts(turns: Any) -> bool:
    return isinstance(turns, list) and all(isinstance(turn, str) for turn in turns)


def _tokens(prompt: str) -> tuple[list[str], list[str]]:
    tokens = list(tokenize.generate_tokens(io.StringIO(prompt).readline))
    strings = [token.string for token in tokens if token.type == tokenize.STRING]
    return strings, [token.string for token in tokens if token.type == tokenize.OP]


def _text(value: Any, name: str, row_name: RowName, row: int, kind: str) -> str | None:
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            raise HistoryError(
                f"column {name!r}, {row_name(row)}: bytes that are not UTF-8 ({error.reason} at "
                f"{error.start}); give a text"
            ) from None
    if isinstance(value, np.ndarray | list | tuple | Mapping):
        text = joined_turns([value] if isinstance(value, Mapping) else list(value))
        if text is not None:
            return text
    raise _wrong_type(
        name, row_name(row), kind, value, "give a text, or a list of turns or chat messages with text"
    )


def joined_turns(turns: list[Any]) -> str | None:
    """Join turns or chat messages with line breaks; None if there are none or one has no text."""
    texts = [_turn(turn) for turn in turns]
    return "\n".join(text for text in texts if text is not None) if texts and None not in texts else None


def _turn(turn: Any) -> str | None:
    if isinstance(turn, str):
        return turn
    if isinstance(turn, bytes):
        try:
            return turn.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(turn, Mapping):
        for role, text in _ROLE_AND_TEXT:
            if isinstance(turn.get(role), str):
                content = turn.get(text)
                return content if isinstance(content, str) else _parts(content)
    return None


def _parts(content: Any) -> str | None:
    """Return the text of a message whose content is a list of parts; None if a part is no text."""
    if not isinstance(content, list | tuple | np.ndarray) or not len(content):
        return None
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else None


def _number(value: Any) -> float:
    if isinstance(value, str):
        text = value.strip()
        if "_" in text:
            raise ValueError(text)
        return _TRUTH[text.lower()] if text.lower() in _TRUTH else float(text)
    if isinstance(value, bool | int | float | np.number | np.bool_ | Decimal):
        return float(value)
    raise TypeError(value)


def _is_gap(value: Any) -> bool:
    return value.strip().lower() in _GAPS if isinstance(value, str) else _is_missing(value)


def _is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _wrong_type(name: str, row: str, kind: str, value: Any, fix: str) -> HistoryError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return HistoryError(f"column {name!r} is of type {kind}; {row} has {shown}: {fix}")
