"""What a history must be: rules whose errors name the field, the row, the value and the fix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routing.estimators.base import FloatArray

COST_SUFFIX = "|total_cost"
RESERVED = ("sample_id", "prompt", "eval_name", "query")
"""Columns of RouterBench's naming that are not LLMs."""

Texts = Sequence[str]


class HistoryError(ValueError):
    """What is wrong with a history, and how to mend it."""


def check_lengths(ids: Texts, prompts: Texts, tasks: Texts, embed_texts: Texts | None, models: Texts) -> None:
    """At least one row and one LLM, and as many texts of each kind as ids."""
    if not ids:
        raise HistoryError("ids: the history has no rows; give at least one answered query")
    if not models:
        raise HistoryError("models: the history has no LLM; give at least one")
    for name, values in (("prompts", prompts), ("tasks", tasks), ("embed_texts", embed_texts)):
        if values is not None and len(values) != len(ids):
            raise HistoryError(f"{name}: {len(values)} for {len(ids)} ids; give one a row")


def check_texts(ids: Texts, prompts: Texts, tasks: Texts, embed_texts: Texts | None) -> None:
    """All are strings that UTF-8 can hold, and no id appears twice."""
    fields = (("ids", ids), ("prompts", prompts), ("tasks", tasks), ("embed_texts", embed_texts or ()))
    for name, values in fields:
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise HistoryError(f"{name}: row {row} is {value!r}; give a string")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise HistoryError(
                    f"{name}: row {row}: character {error.start} is half of a pair ({value[error.start]!r}); "
                    "replace it, as no file can hold it"
                ) from None
    _check_once("ids", ids, "row")


def check_names(models: Texts) -> None:
    """Names of LLMs that can be columns, none twice."""
    for name in models:
        if not isinstance(name, str) or not name or name in RESERVED or name.endswith(COST_SUFFIX):
            raise HistoryError(
                f"models: {name!r} cannot be the name of an LLM; it must be a text that is not empty, "
                f"not one of {', '.join(RESERVED)}, and must not end in {COST_SUFFIX}"
            )
    _check_once("models", models, "column")


def check_numbers(field: str, values: FloatArray, most: float, ids: Texts, models: Texts) -> None:
    """One number for each row and LLM, from 0 to `most`."""
    if values.shape != (len(ids), len(models)):
        raise HistoryError(f"{field}: shape {values.shape} is not [rows, LLMs] = [{len(ids)}, {len(models)}]")
    bad = ~((values >= 0) & (values <= most) & np.isfinite(values))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        what = f"a number in [0, {most:g}]" if np.isfinite(most) else "a number of USD, 0 or more"
        raise HistoryError(
            f"{field}: row {row} (id {ids[row]!r}), LLM {models[column]!r}: {values[row, column]} is not "
            f"{what}; mend or drop the row ({int(bad.any(axis=1).sum())} rows are wrong in this way)"
        )


def named(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list that may be long, for an error."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_once(field: str, values: Texts, unit: str) -> None:
    if len(set(values)) == len(values):
        return
    first: dict[str, int] = {}
    for place, value in enumerate(values):
        if value in first:
            raise HistoryError(
                f"{field}: {value!r} is there twice, at {unit}s {first[value]} and {place}; "
                "drop one of them or rename it"
            )
        first[value] = place
