"""SPROUT (CARROT-LLM-Routing/SPROUT): for each LLM a struct with score and token counts; cost from prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from routing.datasets.cells import read_identifiers, read_numbers, read_texts
from routing.datasets.published_prices import SPROUT, Prices, priced
from routing.datasets.routerbench_table import Incomplete, rows_without_gaps
from routing.datasets.row_numbers import TableRows
from routing.datasets.table_files import read_schema, read_table, split_of, table_files
from routing.history.history import History
from routing.history.rules import HistoryError, named

SCORE, INPUT, OUTPUT = "score", "num_input_tokens", "num_output_tokens"


def load_sprout(
    path: str | Path,
    prices: Prices | None = None,
    incomplete: Incomplete = "error",
    splits: Sequence[str] | None = None,
) -> History:
    """Load the history in SPROUT's published files.

    Columns read: `key` and `prompt`, `dataset` (the task) if present, and every struct that has the
    fields `score` (quality), `num_input_tokens` and `num_output_tokens`. Cost = tokens x price.

    Parameters
    ----------
    path : path
        The data set's folder, or one of its files (parquet or Arrow).
    prices : mapping from LLM to (input, output)
        USD per million tokens; by default list prices of the end of 2024.
    incomplete : {"error", "drop"}
        Raise an error for a row with a gap (no prompt, score or token count), or drop the row.
    splits : sequence of {"train", "validation", "test"}, optional
        Splits of a folder to load; all by default.

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
        token_prices = priced(models, SPROUT if prices is None else prices)
        parts = [_part(file, models, token_prices, incomplete, prefix=len(files) > 1) for file in files]
        return _join_parts(parts, models)
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from None


def llm_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that are an LLM's struct of score and token counts."""
    return [
        column.name
        for column in schema
        if pa.types.is_struct(column.type) and {SCORE, INPUT, OUTPUT} <= {field.name for field in column.type}
    ]


Part = tuple[list[str], list[str], list[str], NDArray[np.float64], NDArray[np.float64]]


def _part(
    file: Path,
    models: list[str],
    token_prices: list[tuple[float, float]],
    incomplete: Incomplete,
    prefix: bool,
) -> Part:
    columns = set(read_schema(file).names)
    for name in ("prompt", *models):
        if name not in columns:
            raise HistoryError(f"{file.name}: column {name!r} is missing; fetch the file again")
    plain = [name for name in ("key", "prompt", "dataset") if name in columns]
    fields = [f"{model}.{field}" for model in models for field in (SCORE, INPUT, OUTPUT)]
    table, rows = read_table(file, plain + fields)
    try:
        return _read_part(file, table, rows, models, token_prices, incomplete, prefix)
    except HistoryError as error:
        raise HistoryError(f"{file.name}: {error}" if prefix else str(error)) from None


def _read_part(
    file: Path,
    table: pa.Table,
    rows: TableRows,
    models: list[str],
    token_prices: list[tuple[float, float]],
    incomplete: Incomplete,
    prefix: bool,
) -> Part:
    prompts = _texts(table, "prompt", rows, read_texts)
    keys = (
        _texts(table, "key", rows, read_identifiers)
        if "key" in table.column_names
        else [str(row) for row in range(len(prompts))]
    )
    split = split_of(file) or file.stem
    ids = [f"{split}.{key}" if prefix and key is not None else key for key in keys]
    tasks = (
        _texts(table, "dataset", rows, read_identifiers)
        if "dataset" in table.column_names
        else [""] * len(prompts)
    )
    quality = np.empty((len(prompts), len(models)))
    cost = np.empty_like(quality)
    for i, (model, (input_price, output_price)) in enumerate(zip(models, token_prices, strict=True)):
        quality[:, i] = _field(table, model, SCORE, rows)
        tokens_in, tokens_out = _field(table, model, INPUT, rows), _field(table, model, OUTPUT, rows)
        cost[:, i] = (tokens_in * input_price + tokens_out * output_price) / 1e6
    gaps = {
        name: np.array([text is None for text in texts], bool)
        for name, texts in (("key", ids), ("prompt", prompts))
    }
    for i, model in enumerate(models):
        gaps[model] = np.isnan(quality[:, i]) | np.isnan(cost[:, i])
    keep = rows_without_gaps(gaps, incomplete, rows.name, "key", ids)
    return (
        [ids[row] or "" for row in keep],
        [prompts[row] or "" for row in keep],
        [tasks[row] or "" for row in keep],
        quality[keep],
        cost[keep],
    )


def _join_parts(parts: list[Part], models: list[str]) -> History:
    ids, prompts, tasks = ([text for part in parts for text in part[i]] for i in range(3))
    quality, cost = np.concatenate([part[3] for part in parts]), np.concatenate([part[4] for part in parts])
    return History(ids, prompts, tasks, models, quality, cost)


def _texts(
    table: pa.Table, name: str, rows: TableRows, convert: Callable[..., list[str | None]]
) -> list[str | None]:
    column = table.column(name)
    return convert(column.to_pandas(), name, rows.name, str(column.type))


def _field(table: pa.Table, model: str, field: str, rows: TableRows) -> NDArray[np.float64]:
    column = pc.struct_field(table.column(model), field)
    return read_numbers(column.to_pandas(), f"{model}.{field}", rows.name)
