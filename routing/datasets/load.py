"""Detection of a data set's format by the file's content, not by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from routing.datasets.archives import plain_file
from routing.datasets.open_llm import QUESTIONS, correctness_columns, load_open_llm
from routing.datasets.routerbench import load_routerbench
from routing.datasets.routerbench_table import Incomplete, load_tabular
from routing.datasets.sprout import llm_columns, load_sprout
from routing.datasets.table_files import read_schema
from routing.history.history import EmbeddedHistory, History
from routing.history.rules import COST_SUFFIX, HistoryError, named
from routing.history.storage import MANIFEST


def load_dataset(
    path: str | Path,
    incomplete: Incomplete = "error",
    prices: Mapping[str, tuple[float, float]] | None = None,
) -> History:
    """Load a data set of answered queries in any supported format.

    The formats are RouterBench's pickle; parquet, Arrow, JSON Lines and separated text in RouterBench's
    columns; SPROUT; the Open LLM Leaderboard v2 in CARROT's form; and the folder of a saved history. Files
    may be compressed by gzip, bzip2, xz, zstd or zip, and may be pipes.

    Parameters
    ----------
    path : path
        A file, or a folder of a data set's files.
    incomplete : {"error", "drop"}
        Raise an error for a row with a gap, or drop the row.
    prices : mapping from LLM to (input, output), optional
        USD per million tokens, for formats without costs; by default the list prices of their time.

    Raises
    ------
    FileNotFoundError
        `path` does not exist.
    HistoryError
        The format is unknown or the data is invalid; the message names the problem, the place and the fix.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"{place}: no such data set; give a file or a folder")
    if place.is_dir():
        if (place / MANIFEST).exists():
            return EmbeddedHistory.load(place).history
        if (place / QUESTIONS).exists():
            return load_open_llm(place, prices, incomplete=incomplete)
    with plain_file(place) as file:
        return _load(file, incomplete, prices)


def _load(place: Path, incomplete: Incomplete, prices: Mapping[str, tuple[float, float]] | None) -> History:
    if place.is_file() and _is_pickle(place):
        return load_routerbench(place, incomplete)
    schema = read_schema(place)
    if any(name.strip().endswith(COST_SUFFIX) for name in schema.names):
        return load_tabular(place, incomplete)
    if llm_columns(schema):
        return load_sprout(place, prices, incomplete)
    if _is_open_llm(schema, prices):
        return load_open_llm(place, prices, incomplete=incomplete)
    raise HistoryError(
        f"{place}: format unknown; there are the columns {named(schema.names)}. Give each LLM a column <llm> "
        f"with its quality in [0, 1] and <llm>{COST_SUFFIX} with its cost in USD, beside sample_id and prompt"
    )


def _is_open_llm(schema: pa.Schema, prices: Mapping[str, tuple[float, float]] | None) -> bool:
    return "prompt" in schema.names and bool(correctness_columns(schema, prices))


def _is_pickle(file: Path) -> bool:
    with open(file, "rb") as opened:
        start = opened.read(2)
    return start[:1] == b"\x80" and start[1:] <= b"\x05"
