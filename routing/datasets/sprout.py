"""SPROUT (CARROT-LLM-Routing/SPROUT): for each LLM a struct with score and token counts; cost from prices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from routing.datasets.list_prices import SPROUT, Prices, priced
from routing.datasets.tables import read_schema, read_table, split_of, table_files
from routing.datasets.tabular import Incomplete
from routing.history import History
from routing.history_rules import HistoryError, named

SCORE, INPUT, OUTPUT = "score", "num_input_tokens", "num_output_tokens"


def load_sprout(
    path: str | Path,
    prices: Prices | None = None,
    incomplete: Incomplete = "refuse",
    splits: Sequence[str] | None = None,
) -> History:
    """The history in SPROUT's published files.

    Columns read: `key` and `prompt`, `dataset` where there is one (the task), and every struct that has the
    fields `score` (quality), `num_input_tokens` and `num_output_tokens`. Cost = tokens x price.

    Parameters
    ----------
    path : path
        The data set's folder, or one of its files (parquet or Arrow).
    prices : mapping from LLM to (input, output)
        USD per million tokens; list prices of the end of 2024 where not given.
    incomplete : {"refuse", "drop"}
        Whether a row without a score or token count for some LLM is an error or left out.
    splits : sequence of {"train", "validation", "test"}, optional
        Only these splits of a folder; all where not given.

    Raises
    ------
    HistoryError
        A column, a price or a value is missing or wrong.
    """
    files = [file for file in table_files(path) if splits is None or split_of(file) in splits]
    if not files:
        raise HistoryError(
            f"{path}: splits: no file of {named(list(splits or ()))}; name those that are there"
        )
    models = llm_columns(read_schema(files[0]))
    try:
        paid = priced(models, SPROUT if prices is None else prices)
        parts = [_part(file, models, paid, prefix=len(files) > 1) for file in files]
        return _joined(parts, models, incomplete)
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from None


def llm_columns(schema: pa.Schema) -> list[str]:
    """The columns that are an LLM's struct of score and token counts."""
    return [
        column.name
        for column in schema
        if pa.types.is_struct(column.type) and {SCORE, INPUT, OUTPUT} <= {field.name for field in column.type}
    ]


Part = tuple[list[str], list[str], list[str], NDArray[np.float64], NDArray[np.float64]]


def _part(file: Path, models: list[str], paid: list[tuple[float, float]], prefix: bool) -> Part:
    there = set(read_schema(file).names)
    for name in ("prompt", *models):
        if name not in there:
            raise HistoryError(f"{file.name}: column {name!r} is missing; fetch the file again")
    plain = [name for name in ("key", "prompt", "dataset") if name in there]
    fields = [f"{model}.{field}" for model in models for field in (SCORE, INPUT, OUTPUT)]
    table = read_table(file, plain + fields)
    prompts = _texts(table, "prompt")
    keys = _texts(table, "key") if "key" in there else [str(row) for row in range(len(prompts))]
    split = split_of(file) or file.stem
    ids = [f"{split}.{key}" for key in keys] if prefix else keys
    tasks = _texts(table, "dataset") if "dataset" in there else [""] * len(prompts)
    quality = np.empty((len(prompts), len(models)))
    cost = np.empty_like(quality)
    for i, (model, (paid_in, paid_out)) in enumerate(zip(models, paid, strict=True)):
        quality[:, i] = _field(table, model, SCORE)
        tokens_in, tokens_out = _field(table, model, INPUT), _field(table, model, OUTPUT)
        cost[:, i] = (tokens_in * paid_in + tokens_out * paid_out) / 1e6
    return ids, prompts, tasks, quality, cost


def _joined(parts: list[Part], models: list[str], incomplete: Incomplete) -> History:
    ids, prompts, tasks = ([text for part in parts for text in part[i]] for i in range(3))
    quality, cost = np.concatenate([part[3] for part in parts]), np.concatenate([part[4] for part in parts])
    whole = ~(np.isnan(quality) | np.isnan(cost)).any(axis=1)
    if incomplete == "refuse" and not whole.all():
        row = int(np.argmin(whole))
        column = int(np.argmax(np.isnan(quality[row]) | np.isnan(cost[row])))
        raise HistoryError(
            f"column {models[column]!r}, row {row} (key {ids[row]!r}): no score or token count; drop the row "
            f"({int((~whole).sum())} rows have such a gap), or load with incomplete='drop'"
        )
    keep = np.flatnonzero(whole)
    return History(
        ids=[ids[row] for row in keep],
        prompts=[prompts[row] for row in keep],
        tasks=[tasks[row] for row in keep],
        models=models,
        quality=quality[keep],
        cost=cost[keep],
    )


def _texts(table: pa.Table, name: str) -> list[str]:
    values = table.column(name).to_pylist()
    if None in values:
        raise HistoryError(f"column {name!r}, row {values.index(None)}: no value; give a text")
    return [str(value) for value in values]


def _field(table: pa.Table, model: str, field: str) -> NDArray[np.float64]:
    column = pc.struct_field(table.column(model), field)
    return pc.cast(column, pa.float64()).to_numpy().astype(np.float64)
