"""Validation rules of a history; errors name the field, the row, the value and the fix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from routing.arrays import FloatArray

COST_SUFFIX = "|total_cost"
RESERVED = ("sample_id", "prompt", "eval_name", "query")
"""Columns of RouterBench's naming that are not LLMs."""

Texts = Sequence[str]
RowName = Callable[[int], str]
"""From a row's place, from 0, to its name in an error."""


class HistoryError(ValueError):
    """An invalid history; the message names the problem and the fix."""


def row_name(row: int) -> str:
    """Return the name of a row, which counts from 1, by its position, which counts from 0.

    Examples
    --------
    >>> row_name(0)
    'row 1'
    """
    return f"row {row + 1}"


def check_lengths(ids: Texts, prompts: Texts, tasks: Texts, embed_texts: Texts | None, models: Texts) -> None:
    """Check that there are rows and LLMs, and as many texts of each kind as ids."""
    if not ids:
        raise HistoryError("ids: the history has no rows; give at least one answered query")
    if not models:
        raise HistoryError("models: the history has no LLM; give at least one")
    for name, values in (("prompts", prompts), ("tasks", tasks), ("embed_texts", embed_texts)):
        if values is not None and len(values) != len(ids):
            raise HistoryError(f"{name}: {len(values)} for {len(ids)} ids; give one a row")


def check_texts(
    ids: Texts, prompts: Texts, tasks: Texts, embed_texts: Texts | None, name_of: RowName = row_name
) -> None:
    """Check that all texts are valid in UTF-8 and that no id is a duplicate."""
    fields = (("ids", ids), ("prompts", prompts), ("tasks", tasks), ("embed_texts", embed_texts or ()))
    for name, values in fields:
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise HistoryError(f"{name}: {name_of(row)} is {value!r}; give a string")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise HistoryError(
                    f"{name}: {name_of(row)}: character {error.start} is half of a pair "
                    f"({value[error.start]!r}); replace it, as no file can hold it"
                ) from None
    _check_once("ids", ids, name_of)


def check_names(models: Texts) -> None:
    """Check that the names of LLMs can be columns and are unique."""
    for name in models:
        if not isinstance(name, str) or not name or name in RESERVED or name.endswith(COST_SUFFIX):
            raise HistoryError(
                f"models: {name!r} cannot be the name of an LLM; it must be a text that is not empty, "
                f"not one of {', '.join(RESERVED)}, and must not end in {COST_SUFFIX}"
            )
    _check_once("models", models, lambda position: f"column {position + 1}")


def check_numbers(
    field: str,
    values: FloatArray,
    maximum: float,
    ids: Texts,
    models: Texts,
    name_of: RowName = row_name,
) -> None:
    """Check that there is one number for each row and LLM, from 0 to `maximum`."""
    if values.shape != (len(ids), len(models)):
        raise HistoryError(f"{field}: shape {values.shape} is not [rows, LLMs] = [{len(ids)}, {len(models)}]")
    bad = ~((values >= 0) & (values <= maximum) & np.isfinite(values))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        expected = f"a number in [0, {maximum:g}]" if np.isfinite(maximum) else "a number of USD, 0 or more"
        raise HistoryError(
            f"{field}: {name_of(row)} (id {ids[row]!r}), LLM {models[column]!r}: {values[row, column]} "
            f"is not {expected}; correct or drop the row "
            f"({int(bad.any(axis=1).sum())} rows are wrong in this way)"
        )


def named(names: Sequence[str], maximum: int = 8) -> str:
    """Return the first names of a long list, for an error message."""
    shown = ", ".join(repr(name) for name in names[:maximum])
    return shown + (f" and {len(names) - maximum} more" if len(names) > maximum else "")


def _check_once(field: str, values: Texts, name_of: RowName) -> None:
    if len(set(values)) == len(values):
        return
    first: dict[str, int] = {}
    for position, value in enumerate(values):
        if value in first:
            raise HistoryError(
                f"{field}: {value!r} is a duplicate, at {name_of(first[value])} and {name_of(position)}; "
                "drop one of them or rename it"
            )
        first[value] = position
